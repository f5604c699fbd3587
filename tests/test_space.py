"""A Space's variables, its disk, and what strangers may do, without a Space."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from audit.plan_file import PlanError
from core.database import StoreError
from core.store import Store
from tests.test_pages import made, services  # noqa: F401, one is a fixture
from webapp import space
from webapp.app import build
from webapp.audit_page import AuditPage
from webapp.places import REPOSITORY
from webapp.policy import Policy
from webapp.services import Services
from webapp.zero_gpu import NO_AUDITS, ZeroGpu

SPACE = {"SYSTEM": "spaces", "SPACE_ID": "somebody/seedproof", "CPU_CORES": "2", "MEMORY": "16Gi"}


def test_the_variables_of_a_space_are_read() -> None:
    start = space.start({**SPACE, "GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": "7000"})
    assert (start.name, start.host, start.port) == ("somebody/seedproof", "0.0.0.0", 7000)
    assert start.threads == 2
    assert space.start({}) == space.Start(name="", host="0.0.0.0", port=7860, threads=None)
    assert space.start({}).bucket == Path("/data")
    assert space.start({"SEEDPROOF_DATA": "/data/mine"}).bucket == Path("/data/mine")
    assert space.start({"SPACES_ZERO_GPU": "true"}).zero_gpu
    assert not space.start({"SPACES_ZERO_GPU": "false"}).zero_gpu


@pytest.mark.parametrize(
    ("omp", "cores", "threads"),
    [
        ("", "2", 2),
        ("", "3500m", 3),
        ("3500m", "3500m", 3),
        ("1", "8", 1),
        ("", "0.5", 1),
        ("", "many", None),
        ("many", "4", 4),
        ("", "-1", None),
        ("", "inf", None),
        ("", "nan", None),
    ],
)
def test_whole_cores(omp: str, cores: str, threads: int | None) -> None:
    assert space.start({"OMP_NUM_THREADS": omp, "CPU_CORES": cores}).threads == threads


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"SPACES_ZERO_GPU": "true"}, "ZeroGPU needs the package spaces, which a Space with"),
        ({"GRADIO_SERVER_PORT": "http"}, "GRADIO_SERVER_PORT is a number from 1 to 65535"),
        ({"GRADIO_SERVER_PORT": "70000"}, "GRADIO_SERVER_PORT is a number from 1 to 65535"),
    ],
)
def test_what_cannot_work_is_one_line(
    tmp_path: Path, variables: dict[str, str], sentence: str
) -> None:
    """Started as a Space starts it: the file, by its path, from another folder."""
    ended = subprocess.run(
        [sys.executable, str(REPOSITORY / "webapp" / "space.py")],
        cwd=tmp_path,
        env={**os.environ, **SPACE, "GRADIO_SERVER_PORT": "", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"seedproof: {sentence}")


def test_a_folder_that_is_no_mount_keeps_nothing(tmp_path: Path) -> None:
    assert not space.keeps(tmp_path)
    assert not space.keeps(tmp_path / "absent")


def test_a_mount_keeps_what_it_lets_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda self: True)
    assert space.keeps(tmp_path)
    assert list(tmp_path.iterdir()) == []

    def refused(self: Path, target: Path) -> Path:
        raise OSError("read-only or no renaming")

    monkeypatch.setattr(Path, "replace", refused)
    assert not space.keeps(tmp_path)
    assert not space.keeps(tmp_path / "absent")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What `serve` was called with, without serving."""
    calls: list[dict[str, object]] = []
    monkeypatch.setattr(
        "webapp.server.serve",
        lambda place, model, **rest: calls.append({"place": place, "model": model, **rest}),
    )
    for name in ("SPACES_ZERO_GPU", "GRADIO_SERVER_PORT", "GRADIO_SERVER_NAME", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")
    for name, value in SPACE.items():
        monkeypatch.setenv(name, value)
    return calls


def test_a_mounted_bucket_holds_the_data_and_pages_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[dict[str, object]]
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda self: True)
    monkeypatch.setenv("SEEDPROOF_DATA", str(tmp_path))
    assert space.main() == 0
    (call,) = started
    assert call["zero_gpu"] is None
    assert call["place"].database == tmp_path / "seedproof" / "seedproof.db"  # type: ignore[attr-defined]
    assert call["place"].access == "exclusive"  # type: ignore[attr-defined]
    assert call["policy"].notice == (  # type: ignore[attr-defined]
        "The Space somebody/seedproof is shared by everybody who visits. "
        "Pictures and audits are kept in its bucket."
    )
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_without_a_bucket_pages_say_that_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[dict[str, object]]
) -> None:
    monkeypatch.setenv("SEEDPROOF_DATA", str(tmp_path))
    assert space.main() == 0
    (call,) = started
    assert tmp_path not in call["place"].database.parents  # type: ignore[attr-defined]
    assert call["place"].access == "shared"  # type: ignore[attr-defined]
    assert "emptied at every restart" in call["policy"].notice  # type: ignore[attr-defined]


def test_on_zero_gpu_calls_are_decorated_and_no_audit_is_offered(
    monkeypatch: pytest.MonkeyPatch, started: list[dict[str, object]]
) -> None:
    fake = SimpleNamespace(GPU=lambda **options: lambda task: task)
    monkeypatch.setitem(sys.modules, "spaces", fake)  # type: ignore[arg-type]
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert space.main() == 0
    (call,) = started
    assert isinstance(call["zero_gpu"], ZeroGpu)
    policy = call["policy"]
    assert isinstance(policy, Policy)
    assert (policy.plans, policy.why_no_plans) == ((), NO_AUDITS)


def test_where_no_plan_is_offered_the_page_says_why(services: Services) -> None:  # noqa: F811
    limited = replace(services, policy=Policy(plans=(), why_no_plans="None <here>."))
    (page,) = made(lambda: (AuditPage(limited),))
    words, button = page._promised(None, SimpleNamespace())  # type: ignore[arg-type]
    assert "None &lt;here&gt;." in words
    assert button.interactive is False
    with pytest.raises(PlanError, match="not offered here"):
        page._plan("quick")


# The database on a network mount


def hold(path: Path) -> "subprocess.Popen[str]":
    """Another process that has stored an audit, and keeps the database open."""
    code = (
        "import sys; from pathlib import Path; from core.store import Store\n"
        "store = Store(Path(sys.argv[1]), 'exclusive')\n"
        "print(store.add_audit('a', plan={}, platform={}, model={}), flush=True)\n"
        "sys.stdin.read()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_share_no_bucket_and_a_killed_one_leaves_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.database.PATIENCE", 0.1)
    path = tmp_path / "seedproof" / "a.db"
    with hold(path) as other:
        assert other.stdout is not None
        audit_id = other.stdout.readline().strip()
        for access in ("exclusive", "shared"):
            with pytest.raises(StoreError, match="locked by another process"):
                Store(path, access)  # type: ignore[arg-type]
        other.kill()
    with Store(path, "exclusive") as store:
        assert [entry.id for entry in store.audits()] == [audit_id]
        assert store.add_audit("b", plan={}, platform={}, model={})
        left = {file.name for file in path.parent.iterdir()}
        assert not {name for name in left if name.endswith(("-wal", "-shm"))}


def test_an_exclusive_database_is_one_file_that_nobody_else_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.database.PATIENCE", 0.1)
    path = tmp_path / "a.db"
    with Store(path, "exclusive") as store:
        with pytest.raises(StoreError, match="locked by another process"):
            Store(path)
        with pytest.raises(StoreError, match="locked by another process"):
            Store(path, "exclusive")
        assert store.audits() == ()
        assert {file.name for file in tmp_path.iterdir()} <= {"a.db", "a.db-journal"}
    with Store(path) as store:
        assert store.audits() == ()


def test_a_shared_database_can_be_moved_to_a_mount_and_back(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    for access in ("shared", "exclusive", "shared"):
        with Store(path, access) as store:  # type: ignore[arg-type]
            (mode,) = store._db.execute("pragma journal_mode").fetchone()
            assert mode == ("wal" if access == "shared" else "delete")


# Strangers


def test_strangers_start_only_the_plans_they_are_offered(services: Services) -> None:  # noqa: F811
    limited = replace(services, policy=Policy(plans=("smoke",), notice="<b>shared</b>"))
    app = made(lambda: build(limited), alone=False)
    assert "&lt;b&gt;shared&lt;/b&gt;" in str(app.config)
    page, own = made(lambda: (AuditPage(limited), AuditPage(services)))
    assert [value for _, value in page.plan.choices] == ["smoke"]
    with pytest.raises(PlanError, match="'quick' is not offered here"):
        page._plan("quick")
    assert page._plan("smoke").name == "smoke"
    assert own._plan("quick").name == "quick"
