"""The guide's examples, put into a copy of the repository as they stand there, and tried."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CONTRACTS = ("attention", "option_contracts", "configurations", "metrics", "platforms")
"""Tests that run over the tuples."""
NAMES = ("double", "two-of-three", "mean_abs")


def blocks(guide: str = GUIDE) -> Iterator[tuple[str, str]]:
    """Language and text of every block that says which file it belongs to."""
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE):
        if text.startswith(("# ", "--- ")):
            yield language, text


def changed(lines: list[str], block: list[str]) -> list[str]:
    """A file after one block: context is looked for from where the last line was found."""
    made, place = list(lines), 0
    for line in block:
        sign, text = line[:1], line[1:]
        if sign == "+":
            made.insert(place, text)
            place += 1
        elif sign == "-":
            assert made[place] == text, f"the guide takes away {text!r}, there is {made[place]!r}"
            del made[place]
        else:
            assert text in made[place:], f"the guide looks for {text!r}"
            place = made.index(text, place) + 1
    return made


def put(block: str, root: Path) -> None:
    first, *rest = block.splitlines()
    path = root / first.split(maxsplit=1)[1]
    if first.startswith("# "):
        assert not path.exists(), f"{path} is there already"
        path.write_text(block, encoding="utf-8")
    else:
        lines = changed(path.read_text(encoding="utf-8").splitlines(), rest)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """This repository with the guide's examples in it."""
    without = shutil.ignore_patterns("__pycache__", "pocket")
    for folder in ("core", "audit", "webapp", "tests", "data"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=without)
    (tmp_path / "data" / "pocket").symlink_to(ROOT / "data" / "pocket")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for _, block in blocks():
        put(block, tmp_path)
    return tmp_path


def test_every_kind_of_part_has_its_example() -> None:
    files = {block.split("\n")[0].split(maxsplit=1)[1] for _, block in blocks()}
    assert files == {
        "core/optimizations/attention/double.py",
        "core/optimizations/attention/__init__.py",
        "core/optimizations/guidance.py",
        "core/platforms.py",
        "audit/metrics.py",
        "data/plans/standard.toml",
        "data/platforms/example.toml",
        "mine.toml",
    }


def test_a_block_that_does_not_fit_the_code_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="looks for 'METRICS = \\['"):
        changed(["METRICS = ("], [" METRICS = [", "+    MINE,"])
    with pytest.raises(AssertionError, match="takes away 'a', there is 'b'"):
        changed(["x = (", "b"], [" x = (", "-a"])


@pytest.mark.slow
def test_the_contract_tests_cover_the_examples_at_once(copy: Path) -> None:
    here = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--no-header"),
            *("tests/added_parts.py", *(f"tests/test_{name}.py" for name in CONTRACTS)),
            *("-k", f"added_parts or {' or '.join(NAMES)} or test_every_capability"),
        ],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert here.returncode == 0, here.stdout[-4000:] + here.stderr
    passed = [line for line in here.stdout.splitlines() if " PASSED" in line]
    for test, name in (
        ("test_a_kernel_is_attention", "[double-"),
        ("test_a_kernel_survives_large_scores", "[double]"),
        ("test_an_option_records_that_it_was_applied", "[attention=double]"),
        ("test_an_option_leaves_no_trace", "[attention=double]"),
        ("test_an_exception_leaves_no_trace", "[attention=double]"),
        ("test_an_option_records_that_it_was_applied", "[min-sigma=two-of-three]"),
        ("test_an_option_leaves_no_trace", "[min-sigma=two-of-three]"),
        ("test_every_metric_is_symmetric", "[mean_abs]"),
        ("test_anything_but_two_equal_sized_rgb_pictures_is_refused", "mean_abs]"),
        ("test_every_capability_was_tried_and_says_why_not", ""),
        ("added_parts.py::test_every_comparison_has_the_metric", ""),
    ):
        assert any(test in line and name in line for line in passed), (test, name)
