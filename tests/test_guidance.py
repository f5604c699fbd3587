"""Which steps go without guidance, and what the record says about it."""

from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionPipeline

from core.optimizations import applied
from core.optimizations.unet_calls import watching_unet
from core.record import Record
from core.run import SlotEffect
from tests.tiny_run import tiny_job, tiny_run

SIGMAS = (14.6, 5.0, 2.0, 0.7, 0.69, 0.3, 0.2, 0.1)


def min_sigma(
    value: str,
    sigmas: tuple[float, ...] = SIGMAS,
    guidance_scale: float = 5.0,
    obey: bool = True,
) -> tuple[list[int], SlotEffect]:
    """Steps that were skipped, and the record, of two pictures on a UNet that does nothing."""
    job = tiny_job(seeds=(1, 2), guidance_scale=guidance_scale, min_sigma=value)
    pipeline = SimpleNamespace(unet=torch.nn.Identity())
    record, skipped = Record(), []
    with applied(pipeline, job, record) as hook:
        for step, sigma in enumerate(sigmas):
            guided = guidance_scale > 1 and hook.guided(step, sigma)
            if not guided:
                skipped.append(step)
            pipeline.unet(torch.zeros(4 if guided or not obey else 2, 4, 1, 1))
    effect = record.freeze().slot("min-sigma")
    assert effect is not None
    return skipped, effect


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("alternate:0.7", [5, 7]),
        ("all:0.7", [4, 5, 6, 7]),
        ("alternate:15", [1, 3, 5, 7]),
        ("all:15", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("all:0.2", [7]),
    ],
)
def test_steps_strictly_below_the_sigma_are_skipped(value: str, expected: list[int]) -> None:
    skipped, effect = min_sigma(value)
    assert skipped == expected
    assert effect.effect == "applied"
    assert effect.counts["calls"] == len(SIGMAS)
    assert effect.counts["calls_skipped"] == len(expected)
    assert effect.counts["unet_calls_unguided"] == len(expected)
    assert effect.counts.get("unet_calls_guided", 0) == len(SIGMAS) - len(expected)
    sigmas = {n: s for n, s in effect.counts.items() if n.startswith("sigma_of")}
    assert sigmas == {f"sigma_of_skipped_call_{step:03d}": SIGMAS[step] for step in expected}


def test_no_step_below_the_sigma_names_the_smallest() -> None:
    skipped, effect = min_sigma("all:0.1")
    assert skipped == []
    assert effect.effect == "none"
    assert "the smallest sigma is 0.1" in effect.reason


def test_alternate_never_skips_an_even_step() -> None:
    skipped, effect = min_sigma("alternate:0.7", sigmas=(5.0, 1.0, 0.1))
    assert skipped == []
    assert effect.effect == "none"
    assert "no UNet call below" in effect.reason
    assert "is one that alternate skips" in effect.reason
    assert "0.1" in effect.reason


def test_without_guidance_there_is_nothing_to_skip() -> None:
    _, effect = min_sigma("all:0.7", guidance_scale=1.0)
    assert effect.effect == "none"
    assert "guidance scale of 1" in effect.reason


def test_a_loop_that_guides_all_the_same_is_found_out() -> None:
    _, effect = min_sigma("all:0.7", obey=False)
    assert effect.effect == "fell-back"
    assert "4 UNet calls were to skip" in effect.reason
    assert "and 0 did" in effect.reason


def test_without_a_hook_every_step_is_guided() -> None:
    with applied(SimpleNamespace(), tiny_job(), Record()) as hook:
        assert hook.guided(1, 0.0)


@pytest.mark.parametrize("min_sigma", ["off", "all:0.7"])
def test_separate_halves_are_the_same_arithmetic_in_smaller_calls(
    shared_pipeline: StableDiffusionPipeline, min_sigma: str
) -> None:
    settings = {} if min_sigma == "off" else {"min_sigma": min_sigma}
    job = tiny_job(seeds=(1, 2), guidance_batch="separate", **settings)
    rows: list[int] = []
    with watching_unet(shared_pipeline, lambda sample: rows.append(sample.shape[0])):
        ours = tiny_run(shared_pipeline, job)
    skipped = 1 if settings else 0
    assert rows == [2] * (4 - skipped)
    together = tiny_run(shared_pipeline, tiny_job(seeds=(1, 2), **settings))
    assert torch.allclose(ours.latents, together.latents, atol=1e-5)
    assert [slot.effect for slot in ours.effective.slots] == ["applied"] * (1 + skipped)
    effect = ours.effective.slot("guidance-batch")
    assert effect is not None
    assert effect.counts == {"calls_cut_in_two": 2 - skipped, "unet_calls": 4 - skipped}


def test_without_guidance_there_is_one_half(shared_pipeline: StableDiffusionPipeline) -> None:
    job = tiny_job(guidance_scale=1.0, guidance_batch="separate")
    effect = tiny_run(shared_pipeline, job).effective.slot("guidance-batch")
    assert effect is not None
    assert (effect.effect, effect.reason) == ("none", "a guidance scale of 1 leaves only one half")


def test_a_call_with_both_halves_is_found_out(shared_pipeline: StableDiffusionPipeline) -> None:
    record = Record()
    with torch.no_grad(), applied(shared_pipeline, tiny_job(guidance_batch="separate"), record):
        shared_pipeline.unet(torch.zeros(2, 4, 16, 16), 500, torch.zeros(2, 77, 32))
    (effect,) = record.freeze().slots
    assert (effect.effect, effect.reason) == ("fell-back", "1 UNet calls had both halves")
