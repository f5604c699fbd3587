"""The README's tree is the repository's: one line for every module, none for a missing one."""

import re
from pathlib import Path

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
