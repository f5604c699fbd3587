"""What every option owes: it records its effect, and leaves no trace. New ones are covered."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch._dynamo.config as dynamo
import torch._inductor.config as inductor
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import Attention

from core.optimization import Configuration, Optimization
from core.optimizations import (
    OPTIMIZATIONS,
    SLOTS,
    applied,
    load_arguments,
    prepare,
    prepared_key,
)
from core.record import Record
from core.request import Job
from tests.tiny_run import tiny_job, tiny_run

VAE_FLAGS = ("use_slicing", "use_tiling", "tile_latent_min_size", "tile_sample_min_size")

every_option = pytest.mark.parametrize(
    "option",
    [
        pytest.param(
            option,
            marks=pytest.mark.slow if option.slot == "compile" else (),
            id=f"{option.slot}={option.name}",
        )
        for option in OPTIMIZATIONS
    ],
)


ABSENT = {"tf32", "cudnn", "own-memory"}
"""What options need that mean nothing on a CPU."""
COMPANIONS = {
    "slice-budget": {"attention": "doggettx"},
    "attention-slicing": {"attention": "sdp"},
}
"""Slots that act through the option of another slot."""


def job_with(option: Optimization) -> Job:
    """Two pictures; twice the model's own size where a setting acts on large pictures only."""
    number = f":{option.parameter.default:g}" if option.parameter else ""
    settings = {option.slot: f"{option.name}{number}", **COMPANIONS.get(option.slot, {})}
    if (option.slot, option.name) == ("vae-tiling", "tiles"):
        settings[option.slot] = "tiles:192"
    if option.slot == "threads":
        settings[option.slot] = f"pinned:{torch.get_num_threads() + 1}"
    side = {"vae-tiling": 256, "two-pass": 160}.get(option.slot, 128)
    return tiny_job(seeds=(1, 2), side=side, **settings)


def loaded(pipeline: StableDiffusionPipeline, job: Job) -> StableDiffusionPipeline:
    """As the pool would have it: a copy where it is loaded or prepared in another way."""
    dtype = load_arguments(job.configuration).get("dtype", torch.float32)
    if dtype == torch.float32 and not prepared_key(job.configuration):
        return pipeline
    pipeline = copy.deepcopy(pipeline).to(dtype)
    prepare(pipeline, job.configuration)
    return pipeline


def state(pipeline: StableDiffusionPipeline) -> dict[str, Any]:
    """Everything a patch could leave behind."""
    modules = [
        module
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)
        for module in part.modules()
    ]
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return {
        "types": [type(module) for module in modules],
        "processors": [id(m.processor) for m in modules if isinstance(m, Attention)],
        "hooks": [[*module._forward_pre_hooks, *module._forward_hooks] for module in modules],
        "instances": [sorted(vars(module)) for module in modules],
        "vae": {name: getattr(pipeline.vae, name) for name in VAE_FLAGS},
        "strides": [[p.stride() for p in module.parameters(recurse=False)] for module in modules],
        "sdp": (
            cuda.flash_sdp_enabled(),
            cuda.math_sdp_enabled(),
            cuda.mem_efficient_sdp_enabled(),
            cuda.cudnn_sdp_enabled(),
        ),
        "tf32": (
            torch.backends.fp32_precision,
            cuda.matmul.fp32_precision,
            cudnn.fp32_precision,
            cudnn.conv.fp32_precision,
            cudnn.rnn.fp32_precision,
        ),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "deterministic": (
            torch.get_deterministic_debug_mode(),
            torch.utils.deterministic.fill_uninitialized_memory,
            inductor.deterministic,
        ),
        "compiler": (
            inductor.compile_threads,
            inductor.max_autotune,
            dynamo.recompile_limit,
        ),
        "precision": (torch.get_float32_matmul_precision(), torch.get_default_dtype()),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "random": torch.get_rng_state().tolist(),
    }


@pytest.mark.usefixtures("fake_xformers", "few_blocks", "tiny_upscalers")
@every_option
def test_an_option_records_that_it_was_applied(
    shared_pipeline: StableDiffusionPipeline, option: Optimization
) -> None:
    """A switch of a device that is not here is turned all the same, and says that it means
    nothing."""
    job = job_with(option)
    pipeline = loaded(shared_pipeline, job)
    before = state(pipeline)
    result = tiny_run(pipeline, job)
    assert state(pipeline) == before
    effect = result.effective.slot(option.slot)
    assert effect is not None
    assert effect.requested == job.configuration.get(option.slot)
    assert effect.effect == ("none" if option.needs & ABSENT else "applied")
    assert effect.reason or effect.effect == "applied"
    assert effect.counts
    assert bool(effect.operators) == (option.slot == "attention")


@pytest.mark.usefixtures("fake_xformers", "few_blocks", "tiny_upscalers")
@every_option
def test_an_option_leaves_no_trace(
    shared_pipeline: StableDiffusionPipeline, option: Optimization
) -> None:
    job = job_with(option)
    pipeline = loaded(shared_pipeline, job)
    bare = replace(job, configuration=Configuration())
    before, plain = state(pipeline), tiny_run(pipeline, bare)
    tiny_run(pipeline, job)
    assert state(pipeline) == before
    if option.prepare is None:
        again = tiny_run(pipeline, bare)
        assert torch.equal(again.latents, plain.latents)
        assert torch.equal(again.pixels, plain.pixels)


@pytest.mark.usefixtures("fake_xformers", "few_blocks", "tiny_upscalers")
@every_option
def test_an_exception_leaves_no_trace(
    shared_pipeline: StableDiffusionPipeline, option: Optimization
) -> None:
    """The embeddings are too narrow for the first cross-attention, inside the first block."""
    job = job_with(option)
    pipeline = loaded(shared_pipeline, job)
    before = state(pipeline)
    side = job.requests[0].width // 8
    latents = torch.zeros(4, 4, side, side, dtype=pipeline.unet.dtype)
    embeddings = torch.zeros(4, 77, 8, dtype=pipeline.unet.dtype)
    record = Record()
    with (
        pytest.raises(RuntimeError, match="mat1 and mat2"),
        torch.no_grad(),
        applied(pipeline, job, record),
    ):
        pipeline.unet(latents, 500, embeddings)
    assert state(pipeline) == before


@pytest.mark.usefixtures("fake_xformers")
def test_all_slots_work_together(shared_pipeline: StableDiffusionPipeline) -> None:
    for attention in SLOTS[0].options:
        job = tiny_job(
            seeds=(1, 2),
            attention=attention.name,
            token_merging="seeded:0.5",
            min_sigma="alternate:0.7",
            precision="fp32",
            deterministic_algorithms="strict",
            threads="pinned:1",
            attention_slicing="rows:4",
            vae_slicing="on",
        )
        effective = tiny_run(shared_pipeline, job).effective
        assert {slot.slot: slot.effect for slot in effective.slots} == dict.fromkeys(
            job.configuration.as_dict(), "applied"
        )


def test_the_tables_are_consistent() -> None:
    assert SLOTS[0].name == "attention"
    assert len({slot.name for slot in SLOTS}) == len(SLOTS)
    for slot in SLOTS:
        assert all(option.slot == slot.name for option in slot.options)
        names = [option.name for option in slot.options]
        assert len(set(names)) == len(names)
        assert all(option.summary and option.changes for option in slot.options)
