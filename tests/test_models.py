"""Which weights a model is, and what sizes it can have."""

from pathlib import Path

import pytest

from core.models import check, digest, native_size, resolve, scale_factor, size_step
from core.request import Request


def test_digest_depends_on_weights_and_not_on_what_lies_beside_them(
    tiny_model_path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in tiny_model_path.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(tiny_model_path)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
    before = digest(copy)
    assert before == digest(tiny_model_path)
    (copy / "README.md").write_text("a card")
    assert digest(copy) == before
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert digest(copy) != before


def test_a_model_knows_its_sizes(tiny_model_path: Path) -> None:
    model = resolve(str(tiny_model_path), Path("unused"))
    assert native_size(model) == 128
    assert scale_factor(model) == 8
    assert size_step(model) == 32


def test_the_shipped_model_has_a_name(tiny_model_path: Path) -> None:
    assert resolve("pocket", tiny_model_path).path == tiny_model_path.resolve()


def test_a_missing_model_says_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give 'pocket', or a folder that holds"):
        resolve("no-such-model", tmp_path)


def test_a_size_between_two_multiples_names_both(tiny_model_path: Path) -> None:
    model = resolve(str(tiny_model_path), Path("unused"))
    check(Request(prompt="", model=model, width=160, height=96))
    with pytest.raises(ValueError, match="multiple of 32 pixels for this model: 96 or 128"):
        check(Request(prompt="", model=model, width=100))
