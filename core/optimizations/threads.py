"""The threads slot: one operator is computed by a fixed number of threads.

How many threads share a sum decides where it is rounded, so that a picture made on eight cores
differs from one made on four. With the number pinned, the machine's own does not matter.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from core.optimization import Optimization, Parameter, Slot
from core.optimizations.unet_calls import watching_first_layers
from core.record import Record
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

COUNT = Parameter(label="number of threads", default=1, minimum=1, maximum=64, step=1, stepped=True)


@contextmanager
def pinned(parameter: float | None) -> Iterator[None]:
    former = torch.get_num_threads()
    torch.set_num_threads(_wanted(parameter))
    try:
        yield
    finally:
        torch.set_num_threads(former)


def _wanted(parameter: float | None) -> int:
    return int(COUNT.default if parameter is None else parameter)


@contextmanager
def patched(
    pipeline: "StableDiffusionPipeline", job: Job, parameter: float | None, record: Record
) -> Iterator[None]:
    """Read the number of threads inside every call."""
    notes = record.slot("threads", job.configuration.get("threads"))
    wanted = _wanted(parameter)

    def see(part: str, x: torch.Tensor) -> None:
        notes.counts[f"{part}_calls_with_{torch.get_num_threads()}_threads"] += 1

    try:
        with watching_first_layers(pipeline, see):
            yield
    finally:
        wrong = sorted(name for name in notes.counts if not name.endswith(f"_{wanted}_threads"))
        if wrong:
            notes.conclude("fell-back", f"another number of threads computed: {', '.join(wrong)}")
        elif notes.counts:
            notes.conclude("applied")
        else:
            notes.conclude("none", "neither the UNet nor the VAE was called")


PINNED = Optimization(
    slot="threads",
    name="pinned",
    summary="One operator is always computed by this many threads, whatever the machine has.",
    changes="Time, where the machine has more; rounding.",
    parameter=COUNT,
    needs=frozenset({"cpu"}),
    surround=pinned,
    patch=patched,
)

THREADS = Slot(name="threads", label="Threads", options=(PINNED,))
