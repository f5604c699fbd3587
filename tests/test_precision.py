"""The format that UNet calls were really computed in."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from core.models import resolve
from core.optimization import Configuration
from core.optimizations import SLOTS, configure, load_arguments
from core.platforms import Platform, detect
from core.pool import Pool
from core.run import SlotEffect
from tests.tiny_run import tiny_job, tiny_run


def precision_of(pipeline: StableDiffusionPipeline, value: str) -> SlotEffect:
    effect = tiny_run(pipeline, tiny_job(precision=value)).effective.slot("precision")
    assert effect is not None
    return effect


@pytest.mark.parametrize(
    ("value", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")]
)
def test_load_arguments_bring_the_format(tiny_model_path: Path, value: str, dtype: str) -> None:
    arguments = load_arguments(Configuration((("precision", value),)))
    assert arguments == {"dtype": getattr(torch, dtype)}
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_model_path, **arguments)
    effect = precision_of(pipeline, value)
    assert effect.effect == "applied", effect.reason
    assert effect.counts == {
        f"unet_calls_with_{dtype}_latents": 2,
        f"unet_calls_with_{dtype}_weights": 2,
    }


def test_fp16_that_was_tried_is_not_called_impossible(
    tiny_model_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    pool = Pool(torch.device("cpu"))
    model = resolve(str(tiny_model_path), Path("unused"))
    pipeline = pool.get(model, Configuration((("precision", "fp16"),)))
    assert pipeline.unet.dtype == torch.float16
    assert "cannot run" not in caplog.text


def test_another_format_is_found_out(shared_pipeline: StableDiffusionPipeline) -> None:
    effect = precision_of(shared_pipeline, "bf16")
    assert effect.effect == "fell-back"
    assert "float32" in effect.reason


@pytest.mark.parametrize(
    ("dtype", "reason", "expected"),
    [
        ("float32", None, "fp32"),
        ("bfloat16", None, "bf16"),
        ("float16", None, "fp16"),
        ("float16", "no such kernel", "fp32"),
    ],
)
def test_the_default_follows_the_platform(
    platform: Platform, dtype: str, reason: str | None, expected: str
) -> None:
    there = replace(platform, dtype=dtype, capabilities={"float32": None, dtype: reason})
    assert configure({}, there).get("precision") == expected
    (slot,) = (slot for slot in SLOTS if slot.name == "precision")
    assert slot.default(there) == expected


@pytest.fixture(scope="module")
def platform() -> Platform:
    return detect("cpu")
