"""What is installed, by whom: pyproject's ranges, the pinned sets, and what a Space reads."""

import tomllib
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard, SpaceHardware
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(line) for line in lines]
    for name, lines in PROJECT["optional-dependencies"].items()
}
PINNED = ("constraints.txt", "constraints-gpu.txt")
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
"""Of a Space's card, as the Hub's reference of its configuration lists them."""


def lines(file: str) -> list[str]:
    text = (ROOT / file).read_text("utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]


def pins(file: str) -> dict[str, Version]:
    """Name → version; a line that is not one exact version is an error."""
    found = {}
    for line in lines(file):
        name, _, version = line.partition("==")
        assert canonicalize_name(name) not in found, f"{file} pins {name} twice"
        found[canonicalize_name(name)] = Version(version)
    return found


@pytest.mark.parametrize("file", PINNED)
def test_every_pin_satisfies_the_range_it_stands_for(file: str) -> None:
    pinned = pins(file)
    for wanted in [*RUNTIME, *(one for extra in EXTRAS.values() for one in extra)]:
        version = pinned.get(canonicalize_name(wanted.name))
        assert version is None or version in wanted.specifier, f"{file}: {wanted} has {version}"


@pytest.mark.parametrize("file", PINNED)
def test_every_run_time_dependency_is_pinned(file: str) -> None:
    assert {canonicalize_name(one.name) for one in RUNTIME} <= set(pins(file))


def test_what_the_tests_need_is_pinned_and_xformers_beside_its_torch() -> None:
    assert {canonicalize_name(one.name) for one in EXTRAS["dev"]} <= set(pins("constraints.txt"))
    assert {one.name for one in EXTRAS["xformers"]} <= set(pins("constraints-gpu.txt"))


def test_the_two_pinned_sets_differ_in_torch_alone() -> None:
    cpu, gpu = pins("constraints.txt"), pins("constraints-gpu.txt")
    assert {name for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]} == {"torch"}


def test_a_space_installs_what_the_project_needs() -> None:
    assert lines("requirements.txt") == PROJECT["dependencies"]


@pytest.mark.parametrize("listed", ["2.10.0", "2.11.0"])
def test_the_torch_of_either_kind_of_machine_is_in_range(listed: str) -> None:
    """The newest two versions that ZeroGPU's documentation lists; 2.13.0 is not among them."""
    torch = next(one for one in RUNTIME if one.name == "torch")
    assert Version(listed) in torch.specifier


def test_the_card_of_a_space_says_how_it_starts() -> None:
    card = SpaceCard((ROOT / "README.md").read_text("utf-8")).data
    said = card.to_dict()
    assert said["sdk"] == "gradio"
    assert Version(said["sdk_version"]) == pins("constraints.txt")["gradio"]
    assert Version(said["python_version"]) in SpecifierSet(PROJECT["requires-python"])
    assert said["license"] == PROJECT["license"].lower()
    assert (ROOT / said["app_file"]).is_file()
    assert said["suggested_hardware"] in {hardware.value for hardware in SpaceHardware}
    assert {said["colorFrom"], said["colorTo"]} <= COLOURS
    assert len(said["short_description"]) <= 60
    assert not said["emoji"].isascii()
