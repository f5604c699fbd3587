"""Weights that lie in a small format: the bits of rounded weights, counted where layers widen."""

import copy

import pytest
import torch
from diffusers import StableDiffusionPipeline

from core.optimizations import applied, prepare
from core.optimizations.layerwise_casting import LAYERWISE_CASTING
from core.record import Record
from core.request import Job
from core.run import SlotEffect
from tests.tiny_run import TinyResult, tiny_job, tiny_run


def effect_of(result: TinyResult) -> SlotEffect:
    effect = result.effective.slot("layerwise-casting")
    assert effect is not None
    return effect


def prepared(pipeline: StableDiffusionPipeline, job: Job) -> StableDiffusionPipeline:
    pipeline = copy.deepcopy(pipeline)
    prepare(pipeline, job.configuration)
    return pipeline


def rounded(pipeline: StableDiffusionPipeline, dtype: torch.dtype) -> StableDiffusionPipeline:
    """Convolutions and linear layers rounded once, and everything computed as before."""
    pipeline = copy.deepcopy(pipeline)
    for layer in pipeline.unet.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            for weight in layer.parameters():
                weight.data = weight.data.to(dtype).float()
    return pipeline


@pytest.mark.parametrize(
    ("value", "dtype"), [("fp8", torch.float8_e4m3fn), ("bf16", torch.bfloat16)]
)
def test_it_computes_with_rounded_weights_that_take_less_memory(
    shared_pipeline: StableDiffusionPipeline, value: str, dtype: torch.dtype
) -> None:
    job = tiny_job(layerwise_casting=value, precision="fp32")
    result = tiny_run(prepared(shared_pipeline, job), job)
    effect = effect_of(result)
    assert effect.effect == "applied", effect.reason
    name = str(dtype).removeprefix("torch.")
    counts = effect.counts
    assert counts[f"layer_calls_from_{name}"] == counts["layer_calls_in_float32"] > 100
    whole = counts["unet_weight_bytes_without_casting"]
    assert whole == sum(p.nbytes for p in shared_pipeline.unet.parameters())
    share = dtype.itemsize / 4
    assert share < counts["unet_weight_bytes"] / whole < share + 0.05
    plain = tiny_run(rounded(shared_pipeline, dtype), tiny_job())
    assert torch.equal(result.latents, plain.latents)
    precision = result.effective.slot("precision")
    assert precision is not None
    assert precision.effect == "applied"


def test_weights_that_are_small_already_are_no_effect(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    job = tiny_job(layerwise_casting="bf16", precision="bf16")
    half = copy.deepcopy(shared_pipeline).to(torch.bfloat16)
    effect = effect_of(tiny_run(prepared(half, job), job))
    assert (effect.effect, effect.reason) == ("none", "the weights are bfloat16 already")


def test_a_unet_that_was_not_prepared_is_found_out(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    effect = effect_of(tiny_run(shared_pipeline, tiny_job(layerwise_casting="fp8")))
    assert effect.effect == "fell-back"
    assert "in one format" in effect.reason


def test_layers_that_stay_wide_are_found_out(shared_pipeline: StableDiffusionPipeline) -> None:
    job = tiny_job(layerwise_casting="fp8")
    pipeline = prepared(shared_pipeline, job)
    with applied(pipeline, job, record := Record()), torch.no_grad():
        pipeline.unet.conv_in.float()
        pipeline.unet(torch.zeros(1, 4, 16, 16), 500, torch.zeros(1, 77, 32))
    (effect,) = record.freeze().slots
    assert effect.effect == "fell-back"
    assert effect.reason == "layers were called otherwise: layer_calls_from_float32"


@pytest.mark.usefixtures("few_blocks")
def test_it_does_not_go_with_compiled_blocks(shared_pipeline: StableDiffusionPipeline) -> None:
    job = tiny_job(layerwise_casting="fp8", compile="default")
    with pytest.raises(ValueError, match="cannot be chosen together"):
        prepared(shared_pipeline, job)


def test_a_format_that_the_device_lacks_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = LAYERWISE_CASTING.options[0].probe
    assert probe is not None
    probe(torch.device("cpu"), torch.float32)
    monkeypatch.setattr(torch, "equal", lambda a, b: False)
    with pytest.raises(RuntimeError, match="float8_e4m3fn and back gave other numbers"):
        probe(torch.device("cpu"), torch.float32)
