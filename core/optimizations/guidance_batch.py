"""The guidance-batch slot: whether guidance's two halves go through the UNet together.

A1111's setting `batch_cond_uncond` (v1.10.1, on there as here by default): without it the UNet is
called for the unconditional rows and then for the conditional ones, each with half of the memory.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from core.optimization import Optimization, Slot
from core.optimizations.unet_calls import watching_unet
from core.record import Record, SlotRecord
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

SLOT = "guidance-batch"
Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From model input and embeddings, with equally many rows, to the UNet's prediction."""


def is_separate(job: Job) -> bool:
    """Whether no UNet call of the job has both halves."""
    return job.configuration.get(SLOT) != "off"


class SeparateHalves:
    """Calls the UNet twice where it would be called once with both halves."""

    def __init__(self, notes: SlotRecord, pictures: int) -> None:
        self.notes = notes
        self.pictures = pictures

    def predict(
        self, predict: Predict, model_input: torch.Tensor, embeddings: torch.Tensor
    ) -> torch.Tensor:
        """What one call gives, unconditional rows first; both arguments have all the rows."""
        self.notes.counts["calls_cut_in_two"] += 1
        halves = zip(model_input.chunk(2), embeddings.chunk(2), strict=True)
        return torch.cat([predict(sample, words) for sample, words in halves])

    def see(self, sample: torch.Tensor) -> None:
        whole = sample.shape[0] > self.pictures
        self.notes.counts["unet_calls_with_both_halves" if whole else "unet_calls"] += 1

    def conclude(self, scale: float) -> None:
        counts = self.notes.counts
        if counts["unet_calls_with_both_halves"]:
            self.notes.conclude(
                "fell-back", f"{counts['unet_calls_with_both_halves']} UNet calls had both halves"
            )
        elif counts["calls_cut_in_two"]:
            self.notes.conclude("applied")
        elif scale <= 1:
            self.notes.conclude("none", f"a guidance scale of {scale:g} leaves only one half")
        else:
            self.notes.conclude("none", "no UNet call of this run had guidance")


@contextmanager
def _patched(
    pipeline: "StableDiffusionPipeline", job: Job, parameter: float | None, record: Record
) -> Iterator[SeparateHalves]:
    halves = SeparateHalves(record.slot(SLOT, job.configuration.get(SLOT)), len(job.requests))
    try:
        with watching_unet(pipeline, halves.see):
            yield halves
    finally:
        halves.conclude(job.requests[0].guidance_scale)


GUIDANCE_BATCH = Slot(
    name=SLOT,
    label="Guidance batch",
    options=(
        Optimization(
            slot=SLOT,
            name="separate",
            summary="The UNet computes the negative prompt's half of guidance, then the prompt's.",
            changes="Time on devices that are not filled by one half; rounding.",
            patch=_patched,
        ),
    ),
)
