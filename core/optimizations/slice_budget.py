"""The slice-budget slot: how many bytes one slice of an attention score matrix may take.

Without it a budget follows from shapes and device alone, so that equal runs slice equally. In
A1111 v1.10.1 (`sd_hijack_optimizations.py`) the slicing options read free memory at every call,
InvokeAI's on CUDA only: what else runs on the machine then changes the shapes of the arithmetic.
`free-memory` does the same, so that an audit can show it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import torch

from core.optimization import Configuration, Optimization, Parameter, Slot
from core.optimizations.attention.slicing import Allowance, Shape

if TYPE_CHECKING:
    from core.record import SlotRecord

CPU_SHARE = 0.25
"""Of the whole score matrix, on a CPU: small pictures are sliced too, so that there is something
to measure."""
GPU_ELEMENTS = 2**28
"""Elements of one slice on a GPU: A1111's threshold for sub-quadratic on Macs, 512 MiB in 16 bits.
"""
SHARE_LIMITS = Parameter(
    label="share of the score matrix", default=CPU_SHARE, minimum=0.01, maximum=1, step=0.01
)

FreeBytes = Callable[[torch.device], int]


def free_bytes(device: torch.device) -> int:
    """Memory this process could still get, in bytes, read in the places where A1111 reads it.

    On CUDA what the driver has left and what torch has reserved and not allocated; elsewhere the
    machine's available memory, which a Mac's GPU shares.
    """
    if device.type == "cuda":
        left, _ = torch.cuda.mem_get_info(device)
        return left + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return psutil.virtual_memory().available


@dataclass(frozen=True)
class Budget:
    """A rule that gives every attention call its allowance; neither field: the default."""

    share: float | None = None
    """Of the whole score matrix."""
    free: FreeBytes | None = None
    """Reads free memory."""

    def allowance(self, shape: Shape, of_free: float) -> Allowance:
        """`of_free`: the part of free memory that the backend lets one slice take."""
        if self.free is not None:
            free = self.free(torch.device(shape.device))
            return Allowance(max(int(free * of_free), 1), free)
        if self.share is None and torch.device(shape.device).type != "cpu":
            return Allowance(GPU_ELEMENTS * shape.element_size)
        share = CPU_SHARE if self.share is None else self.share
        return Allowance(max(int(shape.score_bytes * share), 1))


def chosen_budget(configuration: Configuration) -> Budget:
    """The budget of a configuration that `configure` made."""
    name, _, number = configuration.get("slice-budget").partition(":")
    if name == SHARE.name:
        return Budget(share=float(number) if number else SHARE_LIMITS.default)
    return Budget(free=free_bytes) if name == FREE_MEMORY.name else Budget()


def conclude(notes: "SlotRecord", attention: str, allowances: list[Allowance]) -> None:
    """What the budget did: `allowances` are those that calls of the attention option asked for."""
    if not allowances:
        notes.conclude("none", f"{attention} asked for no budget: only options that cut by one do")
        return
    notes.counts["calls"] = len(allowances)
    notes.counts.update(extremes(allowances))
    notes.conclude("applied", f"{attention} asked for a budget at each of these calls")


def extremes(allowances: list[Allowance]) -> dict[str, int]:
    """The smallest and the largest budget, and free memory where it was read, in bytes."""
    seen = {"budget": [allowance.slice_bytes for allowance in allowances]}
    if free := [a.free_bytes for a in allowances if a.free_bytes is not None]:
        seen["free"] = free
    return {
        f"{end}_{name}_bytes": pick(values)
        for name, values in seen.items()
        for end, pick in (("smallest", min), ("largest", max))
    }


def _probe(device: torch.device, dtype: torch.dtype) -> None:
    if free_bytes(device) <= 0:
        raise RuntimeError("the free memory of this device cannot be read")


SHARE = Optimization(
    slot="slice-budget",
    name="share",
    summary="A slice may take this share of the whole score matrix.",
    changes="Fewer bytes, more slices: time; rounding where keys are cut.",
    parameter=SHARE_LIMITS,
)
FREE_MEMORY = Optimization(
    slot="slice-budget",
    name="free-memory",
    summary="A slice may take a part of what memory is free at that moment, as in A1111.",
    changes="Repeatability may hang on what else runs on the machine; an audit tells.",
    probe=_probe,
)

SLICE_BUDGET = Slot(name="slice-budget", label="Slice budget", options=(SHARE, FREE_MEMORY))
