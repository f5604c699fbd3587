"""Compiled blocks: counted when they run, observed around, found out when they do not run."""

import copy
from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.resnet import ResnetBlock2D

from core.optimization import Configuration
from core.optimizations import OPTIMIZATIONS, applied, availability, compilation, prepare
from core.optimizations.compilation import CompiledForward, blocks_of
from core.platforms import detect
from core.record import Record
from core.request import Job
from core.run import SlotEffect
from tests.tiny_run import TinyResult, tiny_job, tiny_run


def effect_of(result: TinyResult, slot: str = "compile") -> SlotEffect:
    effect = result.effective.slot(slot)
    assert effect is not None
    return effect


def compiled(pipeline: StableDiffusionPipeline, job: Job) -> StableDiffusionPipeline:
    pipeline = copy.deepcopy(pipeline)
    prepare(pipeline, job.configuration)
    return pipeline


@pytest.mark.slow
@pytest.mark.usefixtures("few_blocks")
def test_blocks_run_compiled_and_every_other_setting_is_still_seen(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    others = {
        "attention": "sub-quadratic",
        "attention_slicing": "rows:2",
        "token_merging": "seeded:0.5",
        "min_sigma": "all:0.7",
        "threads": "pinned:1",
    }
    eager = tiny_run(shared_pipeline, tiny_job(seeds=(1, 2), **others))
    job = tiny_job(seeds=(1, 2), compile="default", **others)
    pipeline = compiled(shared_pipeline, job)
    first = tiny_run(pipeline, job)
    effect = effect_of(first)
    assert effect.effect == "applied", effect.reason
    assert effect.counts == {
        "blocks": 2,
        "block_calls": 4,
        "block_calls_compiled": 4,
        # Two kinds of block, with unconditional rows and without.
        "graphs_compiled_while_loading": 4,
        "graphs_compiled_while_running": 0,
    }
    for slot in eager.effective.slots:
        assert first.effective.slot(slot.slot) == slot
    assert torch.allclose(first.latents, eager.latents, atol=1e-4)
    again = tiny_run(pipeline, job)
    assert effect_of(again).counts["graphs_compiled_while_loading"] == 0
    assert torch.equal(again.latents, first.latents)
    larger = replace(job, requests=tiny_job(seeds=(1, 2), side=160).requests)
    counts = effect_of(tiny_run(pipeline, larger)).counts
    assert counts["graphs_compiled_while_loading"] == 4
    assert counts["graphs_compiled_while_running"] == 0
    # Shapes are static: what was computed before changes no bit.
    assert torch.equal(tiny_run(pipeline, job).latents, first.latents)


@pytest.mark.usefixtures("few_blocks")
def test_what_was_not_seen_before_is_compiled_while_running_and_said_so(
    shared_pipeline: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tiny_job(compile="default")
    monkeypatch.setattr(compilation, "_rows", lambda job: [])
    effect = effect_of(tiny_run(compiled(shared_pipeline, job), job))
    assert effect.effect == "applied"
    assert effect.counts["graphs_compiled_while_running"] == 2
    assert "2 graphs were compiled while the run was timed" in effect.reason


@pytest.mark.usefixtures("few_blocks")
def test_code_that_does_not_run_is_found_out(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    job = tiny_job(compile="default")
    pipeline = compiled(shared_pipeline, job)
    (block,) = (
        m
        for m in pipeline.unet.modules()
        if isinstance(m, ResnetBlock2D) and isinstance(m.forward, CompiledForward)
    )
    block.forward._compiled = lambda *args: ResnetBlock2D.forward(block, *args)
    effect = effect_of(tiny_run(pipeline, job))
    assert effect.effect == "fell-back"
    assert effect.reason == "2 of 4 calls of blocks did not run compiled code"


def test_a_pipeline_that_was_not_compiled_is_found_out(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    effect = effect_of(tiny_run(shared_pipeline, tiny_job(compile="default")))
    assert (effect.effect, effect.reason) == (
        "fell-back",
        "the UNet that ran had not been compiled",
    )


def test_no_hook_is_put_inside_a_block(shared_pipeline: StableDiffusionPipeline) -> None:
    """What other settings look at would otherwise be compiled away."""
    inside = {
        id(module)
        for block in blocks_of(shared_pipeline.unet)
        for module in block.modules()
        if module is not block
    }
    before = {
        id(m): len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules(shared_pipeline)
    }
    job = tiny_job(
        attention="none",
        attention_slicing="auto",
        token_merging="seeded:0.5",
        min_sigma="alternate:0.7",
        precision="fp32",
        tf32="on",
        cudnn_benchmark="on",
        cudnn_deterministic="on",
        deterministic_algorithms="strict",
        threads="pinned:1",
        memory_format="channels-last",
        vae_slicing="on",
        vae_tiling="auto",
        guidance_batch="separate",
        two_pass="latent:0.5",
    )
    refused_beside = {"layerwise-casting", "offload"}
    assert {slot for slot, _ in job.configuration} >= {o.slot for o in OPTIMIZATIONS} - {
        "compile",
        "slice-budget",
        *refused_beside,
    }
    with applied(shared_pipeline, job, Record()):
        hooked = {
            id(m)
            for m in modules(shared_pipeline)
            if len(m._forward_hooks) + len(m._forward_pre_hooks) > before[id(m)]
        }
    assert hooked
    assert not hooked & inside


def modules(pipeline: StableDiffusionPipeline) -> list[torch.nn.Module]:
    return [*pipeline.unet.modules(), *pipeline.vae.modules()]


def test_a_compiler_that_fails_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrapped(Exception):
        inner_exception = FileNotFoundError("no C++ compiler\nmore")

    def broken(*args: object, **kwargs: object) -> None:
        raise Wrapped

    (option,) = (o for o in OPTIMIZATIONS if o.slot == "compile" and o.name == "default")
    monkeypatch.setattr(torch, "compile", broken)
    assert availability(option, detect("cpu")) == ("nothing can be compiled here: no C++ compiler")


@pytest.mark.slow
def test_every_block_of_a_unet_can_be_compiled(shared_pipeline: StableDiffusionPipeline) -> None:
    job = tiny_job(seeds=(1, 2), compile="default", memory_format="channels-last")
    pipeline = compiled(shared_pipeline, job)
    result = tiny_run(pipeline, job)
    effect = effect_of(result)
    assert effect.effect == "applied", effect.reason
    assert effect.counts["blocks"] == len(blocks_of(shared_pipeline.unet)) == 18
    assert effect.counts["block_calls_compiled"] == 2 * 18
    assert effect.counts["graphs_compiled_while_running"] == 0
    assert effect_of(result, "memory-format").effect == "applied"
    plain = tiny_run(shared_pipeline, replace(job, configuration=Configuration()))
    assert torch.allclose(result.latents, plain.latents, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.usefixtures("few_blocks")
@pytest.mark.parametrize("value", ["default", "max-autotune"])
def test_blocks_run_compiled_on_a_gpu(tiny_pipeline: StableDiffusionPipeline, value: str) -> None:
    job = tiny_job(compile=value)
    pipeline = tiny_pipeline.to("cuda")
    prepare(pipeline, job.configuration)
    record = Record()
    with torch.no_grad(), applied(pipeline, job, record):
        latents = torch.zeros(2, 4, 16, 16, device="cuda")
        pipeline.unet(latents, 500, torch.zeros(2, 77, 32, device="cuda"))
    effect = record.freeze().slot("compile")
    assert effect is not None
    assert effect.effect == "applied", effect.reason
    assert effect.counts["graphs_compiled_while_running"] == 0


def test_blocks_are_compiled_for_the_rows_that_will_come() -> None:
    for settings, rows in (
        ({}, [4]),
        ({"min_sigma": "all:0.7"}, [4, 2]),
        ({"guidance_batch": "separate"}, [2]),
        ({"guidance_batch": "separate", "min_sigma": "all:0.7"}, [2]),
    ):
        assert compilation._rows(tiny_job(seeds=(1, 2), **settings)) == rows
    assert compilation._rows(tiny_job(seeds=(1, 2), guidance_scale=1.0)) == [2]
