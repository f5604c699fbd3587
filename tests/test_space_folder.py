"""What a Space is made of: every file it needs, and each thing that can be wrong with one."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from webapp.places import REPOSITORY
from webapp.space_folder import MOST_PLAIN_BYTES, assemble, pinned_gradio, problems, report

GRADIO = pinned_gradio()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assemble(tmp_path_factory.mktemp("space") / "whole").path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to spoil; hard links, because weights take their time."""
    subprocess.run(["cp", "-rl", str(whole), str(tmp_path / "app")], check=True)
    return tmp_path / "app"


def test_a_space_is_made_of_tracked_files_and_nothing_is_wrong_with_it(whole: Path) -> None:
    assert problems(whole, GRADIO) == ()
    names = {file.relative_to(whole).as_posix() for file in whole.rglob("*") if file.is_file()}
    for name in (
        "README.md",
        "requirements.txt",
        "webapp/space.py",
        "core/optimizations/attention/sdp.py",
        "data/pocket/unet/diffusion_pytorch_model.safetensors",
        ".github/screenshots/generate.png",
        ".gitattributes",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("tests/", "data/pocket/training/"))]
    assert not [name for name in names if "__pycache__" in name or name.endswith(".db")]
    tracked = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert names - set(tracked) == {".gitattributes"}


def test_the_report_has_the_size_and_the_largest_files(tmp_path: Path) -> None:
    made = assemble(tmp_path / "app")
    first, *largest = report(made, 3).splitlines()
    assert f"{len(made.files)} files" in first
    assert made.commit in first
    assert len(largest) == 3
    assert "unet/diffusion_pytorch_model.safetensors" in largest[0]
    assert made.bytes == sum(f.stat().st_size for f in made.path.rglob("*") if f.is_file())


def test_what_an_earlier_one_left_goes(tmp_path: Path) -> None:
    (tmp_path / "app" / "core").mkdir(parents=True)
    (tmp_path / "app" / "core" / "old.py").write_text("")
    assemble(tmp_path / "app")
    assert not (tmp_path / "app" / "core" / "old.py").exists()


def test_without_git_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no git checkout") as error:
        assemble(tmp_path / "app", tmp_path)
    assert "\n" not in str(error.value)


def edited(file: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / file).read_text("utf-8")
        assert old in text
        (folder / file).unlink()
        (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")

    return edit


def large(folder: Path) -> None:
    (folder / "data" / "weights.bin").write_bytes(bytes(MOST_PLAIN_BYTES + 1))


def secret(folder: Path) -> None:
    (folder / "data" / "notes.txt").write_text("hf_" + "a1B2" * 9)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (edited("README.md", "sdk: gradio", "sdk: docker"), "sdk is 'docker'"),
        (edited("README.md", f"sdk_version: {GRADIO}", "sdk_version: 6.0.0"), "6.0.0 and"),
        (edited("README.md", 'python_version: "3.12"', 'python_version: "3.13"'), "ZeroGPU offers"),
        (edited("README.md", 'python_version: "3.12"', 'python_version: "3.10"'), "needs"),
        (edited("README.md", "app_file: webapp/space.py", "app_file: app.py"), "app.py is not"),
        (edited("README.md", "short_description: ", f"short_description: {'x' * 40}"), "60 are"),
        (edited("README.md", "license: mit", "license: gpl-3.0"), "license is gpl-3.0"),
        (edited("README.md", "colorFrom: green", "colorFrom: teal"), "colorFrom is 'teal'"),
        (edited("README.md", "hardware: cpu-basic", "hardware: abacus"), "no hardware 'abacus'"),
        (edited("README.md", "title: Seedproof\n", ""), "has no title"),
        (edited("README.md", "screenshots/generate.png", "screenshots/gone.png"), "gone.png"),
        (edited("requirements.txt", "pillow>=11\n", ""), "pillow>=11 stands in pyproject.toml"),
        (edited("requirements.txt", "typer>=0.20", "typer>=0.20\nflask"), "flask stands in req"),
        (edited("requirements.txt", "torch>=2.10", "torch>=2.13"), "ZeroGPU offers torch"),
        (edited("requirements.txt", "gradio>=6.31,<7", "gradio<6"), "does not take gradio"),
        (large, "data/weights.bin has 10,000,001 bytes and no LFS rule"),
        (secret, "data/notes.txt holds what looks like a token"),
    ],
)
def test_each_thing_that_can_be_wrong_is_said(
    folder: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(folder)
    found = problems(folder, GRADIO)
    assert any(sentence in one for one in found), found


def test_for_zero_gpu_torch_is_kept_to_what_it_offers(tmp_path: Path, whole: Path) -> None:
    made = assemble(tmp_path / "app", zero_gpu=True)
    assert problems(made.path, GRADIO, zero_gpu=True) == ()
    assert "torch>=2.10,<2.12" in (made.path / "requirements.txt").read_text("utf-8").splitlines()
    assert "suggested_hardware: zero-a10g" in (made.path / "README.md").read_text("utf-8")
    (sentence,) = problems(whole, GRADIO, zero_gpu=True)
    assert "takes versions that ZeroGPU does not offer" in sentence
