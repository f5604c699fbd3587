"""The Dockerfile and compose.yaml, read and linted: nobody here has an engine to build them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import typer.main
import yaml
from click.testing import CliRunner
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.test_pages import services  # noqa: F401, a fixture
from webapp.cli import application
from webapp.health import router
from webapp.places import REPOSITORY
from webapp.services import Services
from webapp.shutdown import SECONDS

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]


def instructions(word: str) -> list[str]:
    """The arguments of every instruction of this kind, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return [
        line.split(maxsplit=1)[1] for line in joined.splitlines() if line.startswith(f"{word} ")
    ]


def listed(text: str) -> list[str]:
    """An exec form, as Python reads it too."""
    found: list[str] = yaml.safe_load(text)
    return found


def test_hadolint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    assert linter.is_file(), "hadolint is not installed: pip install -c constraints.txt -e '.[dev]'"
    found = subprocess.run(
        [linter, "--no-color", "Dockerfile"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_everything_that_is_copied_is_there_and_let_through() -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    assert ignored[0] == "*"
    let_through = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {
        source
        for line in instructions("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }
    assert copied == let_through
    for source in copied:
        assert (REPOSITORY / source).exists(), source


def test_every_package_and_what_it_reads_is_copied() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    packages = {name.partition(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    copied = {line.split()[0] for line in instructions("COPY") if not line.startswith("--from")}
    assert packages | {"data"} <= copied


def test_it_runs_as_nobody_in_particular_and_keeps_its_data_in_the_volume() -> None:
    (user,) = instructions("USER")
    assert user.isdecimal()
    assert int(user) >= 10_000
    assert f"--uid {user} " in DOCKERFILE
    (volume,) = instructions("VOLUME")
    (arguments,) = instructions("CMD")
    database = listed(arguments)[listed(arguments).index("--db") + 1]
    assert Path(database).parent == Path(volume)
    assert f"XDG_CACHE_HOME={volume}/" in DOCKERFILE
    for service in SERVICES.values():
        assert service["volumes"] == [f"data:{volume}"]


def test_its_command_is_one_that_the_terminal_knows() -> None:
    (entry,), (arguments,) = instructions("ENTRYPOINT"), instructions("CMD")
    assert listed(entry) == ["python", "-m", "webapp"]
    command, *options = listed(arguments)
    assert command == "serve"
    terminal: Any = typer.main.get_command(application())
    parsed = terminal.commands["serve"].make_context("serve", options, resilient_parsing=False)
    assert parsed.params["host"] == "0.0.0.0"
    assert parsed.params["journal"] is True
    (port,) = instructions("EXPOSE")
    assert parsed.params["port"] == int(port)
    for service in SERVICES.values():
        assert service["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_its_health_is_asked_where_the_server_answers(
    services: Services,  # noqa: F811
) -> None:
    (check,) = (line for line in instructions("HEALTHCHECK"))
    (port,) = instructions("EXPOSE")
    found = re.search(rf"http://127\.0\.0\.1:{port}(/\w+)", check)
    assert found is not None
    api = FastAPI()
    api.include_router(router(services))
    assert TestClient(api).get(found[1]).status_code == 200


def test_compose_has_both_kinds_of_machine_and_gives_time_to_drain() -> None:
    assert {name: service["profiles"] for name, service in SERVICES.items()} == {
        "cpu": ["cpu"],
        "nvidia": ["nvidia"],
    }
    arguments = {line.partition("=")[0] for line in instructions("ARG")}
    for service in SERVICES.values():
        assert set(service["build"]["args"]) <= arguments
        assert int(service["stop_grace_period"].removesuffix("s")) >= SECONDS + 20
    assert (REPOSITORY / SERVICES["nvidia"]["build"]["args"]["CONSTRAINTS"]).is_file()
    (device,) = SERVICES["nvidia"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert set(COMPOSE["volumes"]) == {"data"}


def test_serve_says_what_its_options_do() -> None:
    shown = CliRunner().invoke(typer.main.get_command(application()), ["serve", "--help"])
    assert shown.exit_code == 0
    assert "--root-path" in shown.output
    assert "--drain-seconds" in shown.output


def test_the_terminal_gives_what_the_shutdown_says() -> None:
    command: Any = typer.main.get_command(application())
    default = {one.name: one.default for one in command.commands["serve"].params}["drain_seconds"]
    assert default == SECONDS
