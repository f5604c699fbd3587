"""The min-sigma slot: steps near the end go without their unconditional rows.

A1111's "negative guidance minimum sigma" (v1.10.1, `sd_samplers_cfg_denoiser.py`, and its pull
request 9177). A skipped step predicts from the prompt alone, as with a guidance scale of 1: the
whole guidance goes, not only the negative prompt.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch

from core.optimization import Optimization, Parameter, Slot, StepHook
from core.optimizations.unet_calls import watching_unet
from core.record import Record, SlotRecord
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

MINIMUM_SIGMA = Parameter(label="minimum sigma", default=0.7, minimum=0, maximum=15, step=0.1)


class MinimumSigma:
    """Skips guidance below a sigma, in every denoiser call or in the odd ones (from 0)."""

    def __init__(self, minimum: float, alternate: bool) -> None:
        self.minimum = minimum
        self.alternate = alternate
        self.sigmas: dict[int, float] = {}
        self.skipped: dict[int, float] = {}

    def guided(self, step: int, sigma: float) -> bool:
        """`step` counts denoiser calls: two for each step of Heun and DPM2."""
        self.sigmas[step] = sigma
        if sigma < self.minimum and (step % 2 or not self.alternate):
            self.skipped[step] = sigma
            return False
        return True


@contextmanager
def patched(
    alternate: bool,
    pipeline: "StableDiffusionPipeline",
    job: Job,
    parameter: float | None,
    record: Record,
) -> Iterator[StepHook]:
    """Decide by step, and count the rows that the UNet was really given."""
    notes = record.slot("min-sigma", job.configuration.get("min-sigma"))
    hook = MinimumSigma(MINIMUM_SIGMA.default if parameter is None else parameter, alternate)
    pictures = len(job.requests)

    def see(sample: torch.Tensor) -> None:
        guided = sample.shape[0] > pictures
        notes.counts["unet_calls_guided" if guided else "unet_calls_unguided"] += 1

    try:
        with watching_unet(pipeline, see):
            yield hook
    finally:
        _conclude(notes, hook, job)


def _conclude(notes: SlotRecord, hook: MinimumSigma, job: Job) -> None:
    notes.counts["steps"] = len(hook.sigmas)
    notes.counts["steps_skipped"] = len(hook.skipped)
    for step, sigma in hook.skipped.items():
        # A whole number would round the sigma: the counter holds it as it is.
        notes.counts[f"sigma_of_skipped_step_{step:03d}"] = sigma  # type: ignore[assignment]
    halved = notes.counts["unet_calls_unguided"]
    scale = job.requests[0].guidance_scale
    if scale <= 1:
        notes.conclude("none", f"a guidance scale of {scale:g} leaves no guidance to skip")
    elif not hook.sigmas:
        notes.conclude("none", "no step of this run asked whether to skip its guidance")
    elif halved != len(hook.skipped):
        notes.conclude(
            "fell-back",
            f"{len(hook.skipped)} steps were to skip guidance, and {halved} UNet calls did",
        )
    elif hook.skipped:
        notes.conclude("applied")
    elif (lowest := min(hook.sigmas.values())) >= hook.minimum:
        notes.conclude(
            "none", f"no step lies below {hook.minimum:g}: the smallest sigma is {lowest:.4g}"
        )
    else:
        notes.conclude(
            "none",
            f"only even steps lie below {hook.minimum:g} (the smallest sigma is {lowest:.4g}), "
            "and alternate skips odd ones",
        )


ALTERNATE = Optimization(
    slot="min-sigma",
    name="alternate",
    summary="Every other step below this sigma skips its guidance.",
    changes="The picture, and how strongly the last steps follow the prompts.",
    parameter=MINIMUM_SIGMA,
    patch=partial(patched, True),
)
ALL = Optimization(
    slot="min-sigma",
    name="all",
    summary="Every step below this sigma skips its guidance.",
    changes="What alternate changes, in about twice as many steps.",
    parameter=MINIMUM_SIGMA,
    patch=partial(patched, False),
)

MIN_SIGMA = Slot(
    name="min-sigma", label="Negative guidance minimum sigma", options=(ALTERNATE, ALL)
)
