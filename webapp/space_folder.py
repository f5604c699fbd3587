"""The folder of a Hugging Face Space: which of our files it needs, and what is wrong with one.

`python -m webapp.space_folder` assembles and checks it without any network. What Spaces take and
offer is from the Hub's documentation (Spaces configuration reference, ZeroGPU), read in 2026-11.
"""

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import SpaceCard, SpaceHardware
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from webapp.places import REPOSITORY

TARGET = REPOSITORY / "build" / "space"
NEEDED = (
    "README.md",
    "LICENSE",
    "requirements.txt",
    "pyproject.toml",
    "core",
    "audit",
    "webapp",
    "data",
    ".github/screenshots",
)
"""Of the tracked files. The card shows the screenshots."""
LEFT_OUT = ("data/pocket/training",)
"""What made the model, and nothing reads."""
ATTRIBUTES = "".join(
    f"{glob} filter=lfs diff=lfs merge=lfs -text\n" for glob in ("*.safetensors", "*.png")
)
"""The Space's own `.gitattributes`: the Hub takes neither large nor binary files in plain git."""
MOST_PLAIN_BYTES = 10 * 10**6
ZERO_GPU_PYTHON = ("3.10", "3.12")
ZERO_GPU_TORCH = ("2.8.0", "2.9.1", "2.10.0", "2.11.0")
ZERO_GPU_HARDWARE = "zero-a10g"
"""What the Hub calls it, whichever GPU it is."""
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
_MOST_DESCRIPTION = 60
_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{30,}")
_PICTURE = re.compile(r"!\[[^]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, kw_only=True)
class SpaceFolder:
    """An assembled folder."""

    path: Path
    files: tuple[tuple[str, int], ...]
    """Names and bytes, the largest first."""
    commit: str
    """What it was assembled from, with `+` where tracked files differ from it."""

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files)


def assemble(target: Path, repository: Path = REPOSITORY, *, zero_gpu: bool = False) -> SpaceFolder:
    """Copy what a Space needs of the tracked files, as they are on disk, over what was there.

    With `zero_gpu` the card suggests that hardware, and torch is kept to what it offers. Raises
    ValueError with one sentence where the repository is no git checkout or lacks a file.
    """
    names = [
        name
        for name in _git(repository, "ls-files", "-z", "--", *NEEDED).split("\0")
        if name and not any(name == out or name.startswith(f"{out}/") for out in LEFT_OUT)
    ]
    commit = _git(repository, "rev-parse", "--short", "HEAD").strip()
    changed = _git(repository, "status", "--porcelain", "--untracked-files=no").strip()
    shutil.rmtree(target, ignore_errors=True)
    for name in names:
        if not (repository / name).is_file():
            raise ValueError(f"{name} is tracked and not on disk: restore it, or commit its end.")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repository / name, target / name)
    (target / ".gitattributes").write_text(ATTRIBUTES, encoding="utf-8")
    if zero_gpu:
        _for_zero_gpu(target)
    files = [(name, (target / name).stat().st_size) for name in (*names, ".gitattributes")]
    ordered = tuple(sorted(files, key=lambda file: (-file[1], file[0])))
    return SpaceFolder(path=target, files=ordered, commit=commit + "+" * bool(changed))


def problems(folder: Path, gradio: str, *, zero_gpu: bool = False) -> tuple[str, ...]:
    """Everything that is wrong with an assembled folder, a sentence each; `gradio` is the version
    that was tested."""
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [line for line in project["dependencies"] if not zero_gpu or _name(line) != "torch"]
    return (
        *_card_problems(folder, project, gradio),
        *_requirement_problems(folder, wanted, gradio, zero_gpu),
        *_file_problems(folder),
    )


def pinned_gradio(repository: Path = REPOSITORY) -> str:
    """The version of the tested set."""
    lines = (repository / "constraints.txt").read_text("utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith("gradio=="))


def _card_problems(folder: Path, project: dict[str, Any], gradio: str) -> Iterator[str]:
    try:
        card = vars(SpaceCard((folder / "README.md").read_text("utf-8")).data)
    except ValueError as error:
        yield f"The card cannot be read: {error}."
        return
    said = {name: str(card.get(name) or "") for name in (*_CARD, "python_version")}
    if missing := [name for name, value in said.items() if not value]:
        yield f"The card has no {', '.join(missing)}."
        return
    if said["sdk"] != "gradio":
        yield f"The card's sdk is {said['sdk']!r} and the app is Gradio's."
    if said["sdk_version"] != gradio:
        yield f"The card's sdk_version is {said['sdk_version']} and {gradio} was tested."
    python, allowed = said["python_version"], SpecifierSet(project["requires-python"])
    if python not in ZERO_GPU_PYTHON or not allowed.contains(python):
        yield (
            f"The card's python_version is {python}: this project needs {allowed}, and ZeroGPU "
            f"offers {' and '.join(ZERO_GPU_PYTHON)}."
        )
    if not (folder / said["app_file"]).is_file():
        yield f"The card's app_file {said['app_file']} is not in the folder."
    if len(said["short_description"]) > _MOST_DESCRIPTION:
        yield (
            f"The card's short_description has {len(said['short_description'])} characters; "
            f"{_MOST_DESCRIPTION} are shown."
        )
    if said["license"] != project["license"].lower():
        yield f"The card's license is {said['license']} and the project's {project['license']}."
    for name in ("colorFrom", "colorTo"):
        if said[name] not in COLOURS:
            yield f"The card's {name} is {said[name]!r}: choose one of {', '.join(COLOURS)}."
    if said["suggested_hardware"] not in {hardware.value for hardware in SpaceHardware}:
        yield f"The Hub has no hardware {said['suggested_hardware']!r}."
    for picture in _PICTURE.findall((folder / "README.md").read_text("utf-8")):
        if "://" not in picture and not (folder / picture).is_file():
            yield f"The card shows {picture}, which is not in the folder."


_CARD = (
    "title",
    "emoji",
    "colorFrom",
    "colorTo",
    "sdk",
    "sdk_version",
    "app_file",
    "short_description",
    "suggested_hardware",
    "license",
)


def _requirement_problems(
    folder: Path, wanted: list[str], gradio: str, zero_gpu: bool
) -> Iterator[str]:
    text = (folder / "requirements.txt").read_text("utf-8")
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    listed = [line for line in lines if not zero_gpu or _name(line) != "torch"]
    for line in sorted({*wanted} ^ {*listed}):
        where = "requirements.txt" if line in listed else "pyproject.toml"
        yield f"{line} stands in {where} alone: both list the same."
    ranges = {_name(line): Requirement(line).specifier for line in lines}
    if not ranges.get("gradio", SpecifierSet()).contains(gradio):
        yield f"requirements.txt does not take gradio {gradio}, which a Space installs."
    torch = ranges.get("torch", SpecifierSet())
    offered = [version for version in ZERO_GPU_TORCH if torch.contains(version)]
    if not offered:
        yield f"ZeroGPU offers torch {', '.join(ZERO_GPU_TORCH)}, and none is in the range {torch}."
    elif zero_gpu and torch.contains("99"):
        yield f"The range of torch, {torch}, takes versions that ZeroGPU does not offer."


def _file_problems(folder: Path) -> Iterator[str]:
    rules = (folder / ".gitattributes").read_text("utf-8").splitlines()
    large = [rule.split()[0] for rule in rules if "filter=lfs" in rule]
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        name, size = file.relative_to(folder).as_posix(), file.stat().st_size
        if size > MOST_PLAIN_BYTES and not any(fnmatch.fnmatch(file.name, glob) for glob in large):
            yield f"{name} has {size:,} bytes and no LFS rule: the Hub refuses it in plain git."
        if _TOKEN.search(file.read_bytes()):
            yield f"{name} holds what looks like a token of the Hub: take it out, and revoke it."


def _for_zero_gpu(folder: Path) -> None:
    """Both places are checked afterwards, so that a line that moved does not go unnoticed."""
    newest = Version(ZERO_GPU_TORCH[-1])
    requirements, card = folder / "requirements.txt", folder / "README.md"
    limit = f",<{newest.major}.{newest.minor + 1}"
    text = requirements.read_text("utf-8")
    requirements.write_text(re.sub(r"(?m)^(torch>=.*)$", rf"\1{limit}", text), encoding="utf-8")
    text = card.read_text("utf-8")
    suggested = f"suggested_hardware: {ZERO_GPU_HARDWARE}"
    card.write_text(re.sub(r"(?m)^suggested_hardware: .*$", suggested, text), encoding="utf-8")


def _name(line: str) -> str:
    return Requirement(line).name


def _git(repository: Path, *arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(repository), *arguments], check=True, capture_output=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(
            f"{repository} is no git checkout that git can read: a Space is made from tracked "
            "files, so clone the repository."
        ) from error


def report(made: SpaceFolder, shown: int = 5) -> str:
    """Size and largest files, in lines."""
    lines = [
        f"{made.path}: {len(made.files)} files, {made.bytes / 1e6:.1f} MB, from {made.commit}",
        *(f"  {size / 1e6:7.2f} MB  {name}" for name, size in made.files[:shown]),
    ]
    return "\n".join(lines)


def main() -> int:
    """Assemble and check; 1 where anything is wrong."""
    made = assemble(TARGET)
    found = problems(made.path, pinned_gradio())
    print(report(made))
    for sentence in found:
        print(f"wrong: {sentence}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
