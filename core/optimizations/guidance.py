"""The min-sigma slot: steps near the end go without their unconditional rows.

A1111's "negative guidance minimum sigma" (v1.10.1, `sd_samplers_cfg_denoiser.py`, and its pull
request 9177). A skipped step predicts from the prompt alone, as with a guidance scale of 1: the
whole guidance goes, not only the negative prompt. As there, what is counted and skipped are calls
of the UNet, of which Heun makes two a step. Unlike there, sigma is the noise level for every
sampler: A1111 gives DDIM and UniPC the timestep, so that with the usual values nothing is skipped.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch

from core.optimization import Optimization, Parameter, Slot, StepHook
from core.optimizations.guidance_batch import is_separate
from core.optimizations.unet_calls import watching_unet
from core.record import Record, SlotRecord
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

MINIMUM_SIGMA = Parameter(label="minimum sigma", default=0.7, minimum=0, maximum=15, step=0.1)


Skips = Callable[[int], bool]
"""Which of the UNet's calls, from 0, go without guidance below the minimum sigma."""


class MinimumSigma:
    """Skips guidance below a sigma, in those UNet calls that the rule names."""

    def __init__(self, minimum: float, skips: Skips) -> None:
        self.minimum = minimum
        self.skips = skips
        self.sigmas: dict[int, float] = {}
        self.skipped: dict[int, float] = {}

    def guided(self, call: int, sigma: float) -> bool:
        self.sigmas[call] = sigma
        if sigma < self.minimum and self.skips(call):
            self.skipped[call] = sigma
            return False
        return True


@contextmanager
def patched(
    skips: Skips,
    pipeline: "StableDiffusionPipeline",
    job: Job,
    parameter: float | None,
    record: Record,
) -> Iterator[StepHook]:
    """Decide by call, and count the rows that the UNet was really given."""
    notes = record.slot("min-sigma", job.configuration.get("min-sigma"))
    hook = MinimumSigma(MINIMUM_SIGMA.default if parameter is None else parameter, skips)
    pictures = len(job.requests)

    def see(sample: torch.Tensor) -> None:
        if is_separate(job):
            notes.counts["unet_calls_of_a_half"] += 1
            return
        guided = sample.shape[0] > pictures
        notes.counts["unet_calls_guided" if guided else "unet_calls_unguided"] += 1

    try:
        with watching_unet(pipeline, see):
            yield hook
    finally:
        _conclude(notes, hook, job)


def _conclude(notes: SlotRecord, hook: MinimumSigma, job: Job) -> None:
    notes.counts["calls"] = len(hook.sigmas)
    notes.counts["calls_skipped"] = len(hook.skipped)
    for call, sigma in hook.skipped.items():
        # A whole number would round the sigma: the counter holds it as it is.
        notes.counts[f"sigma_of_skipped_call_{call:03d}"] = sigma  # type: ignore[assignment]
    halved = notes.counts["unet_calls_unguided"]
    if is_separate(job):
        # A guided call became two of a half each; what was skipped is missing among them.
        halved = 2 * len(hook.sigmas) - notes.counts["unet_calls_of_a_half"]
    scale = job.requests[0].guidance_scale
    if scale <= 1:
        notes.conclude("none", f"a guidance scale of {scale:g} leaves no guidance to skip")
    elif not hook.sigmas:
        notes.conclude("none", "no UNet call of this run asked whether to skip its guidance")
    elif halved != len(hook.skipped):
        notes.conclude(
            "fell-back",
            f"{len(hook.skipped)} UNet calls were to skip guidance, and {halved} did",
        )
    elif hook.skipped:
        notes.conclude("applied")
    elif (lowest := min(hook.sigmas.values())) >= hook.minimum:
        notes.conclude(
            "none", f"no UNet call lies below {hook.minimum:g}: the smallest sigma is {lowest:.4g}"
        )
    else:
        notes.conclude(
            "none",
            f"no UNet call below {hook.minimum:g} (the smallest sigma is {lowest:.4g}) is one "
            f"that {notes.requested.partition(':')[0]} skips",
        )


ALTERNATE = Optimization(
    slot="min-sigma",
    name="alternate",
    summary="Every other step below this sigma skips its guidance.",
    changes="The picture, and how strongly the last steps follow the prompts.",
    parameter=MINIMUM_SIGMA,
    patch=partial(patched, lambda call: call % 2 == 1),
)
ALL = Optimization(
    slot="min-sigma",
    name="all",
    summary="Every step below this sigma skips its guidance.",
    changes="What alternate changes, in about twice as many steps.",
    parameter=MINIMUM_SIGMA,
    patch=partial(patched, lambda call: True),
)

MIN_SIGMA = Slot(
    name="min-sigma", label="Negative guidance minimum sigma", options=(ALTERNATE, ALL)
)
