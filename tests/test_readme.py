"""The README's tree is the repository's: one line for every module, none for a missing one."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from core.optimizations import SLOTS, configure
from core.platforms import detect
from webapp.cli import application

ROOT = Path(__file__).parents[1]


def tree() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.split("<!-- tree -->")[1].split("<!-- /tree -->")[0]


def test_every_module_has_its_line() -> None:
    modules = {
        path.name
        for package in ("core", "audit", "webapp")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    named = set(re.findall(r"[\w]+\.py", tree()))
    assert modules - named == set(), "modules without a line in the README's tree"
    assert named - modules - {"__init__.py"} == set(), "the README's tree names what is not there"


def test_pictures_in_the_readme_exist() -> None:
    for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text("utf-8")):
        assert (ROOT / target).is_file(), target


def commands() -> list[str]:
    """Every command line of ours in the README, and in the guide for who adds a part."""
    texts = [(ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md")]
    blocks = re.findall(r"^```\n(.*?)^```$", "\n".join(texts), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", "\n".join(texts))
    found = [re.sub(r"^!?\S*python -m webapp ", "seedproof ", line) for line in lines]
    return sorted({line for line in found if line.startswith("seedproof ") and "…" not in line})


@pytest.mark.parametrize("line", commands())
def test_every_command_in_the_readme_is_one(line: str) -> None:
    """Parsed and not run: options exist, and settings have the values that are shown."""
    _, name, *arguments = shlex.split(line.partition(" > ")[0], comments=True)
    group = typer.main.get_command(application())
    command = group.get_command(group.make_context("seedproof", ["doctor"]), name)  # type: ignore[attr-defined]
    assert command is not None, f"there is no command {name!r}"
    if not arguments:
        return  # named, and not told to be typed so
    asked = command.make_context(name, arguments).params
    slots = {slot.name: slot.name.replace("-", "_") for slot in SLOTS}
    chosen = {slot: asked[field] for slot, field in slots.items() if asked.get(field)}
    assert configure(chosen, detect("cpu"))
    plan = asked.get("plan", "quick")
    assert plan == "mine.toml" or (ROOT / "data" / "plans" / f"{plan}.toml").is_file()
