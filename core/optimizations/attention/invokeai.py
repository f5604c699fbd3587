"""Attention in slices of rows (batch times heads), or of queries where the rows don't suffice.

InvokeAI's first attention, as A1111 v1.10.1 has it on CUDA: a score matrix that is larger than the
budget is divided by a power of two, first its rows and, where there are too few, its queries. Where
the budget follows free memory, it is free memory divided by 3.3. A1111 reads that on CUDA only; on
a CPU its budget is 32 MiB, and on a Mac the total memory decides. Here one rule serves every
device. It leaves the VAE alone.
"""

from core.optimizations.attention.backend import FUSED, Backend
from core.optimizations.attention.slicing import Allowance, Cut, Shape, Slicing, attend_in_slices

SAFETY = 3.3
"""Free memory is divided by it, for copies and fragments."""


def of_free(shape: Shape) -> float:
    return 1 / SAFETY


def cut(shape: Shape, allowance: Allowance) -> Cut:
    if shape.score_bytes <= allowance.slice_bytes:
        return shape.whole
    parts = 1 << ((shape.score_bytes - 1) // allowance.slice_bytes).bit_length()
    if parts <= shape.rows:
        return Cut(shape.rows // parts, shape.queries, shape.keys)
    return Cut(shape.rows, max(shape.queries // parts, 1), shape.keys)


INVOKEAI = Backend(
    name="invokeai",
    summary="Attention in slices of heads, or else of queries; not in the VAE.",
    changes="Time; rounding.",
    kernel=attend_in_slices,
    made_of=(("bmm",), ("_softmax",)),
    excludes=(*FUSED, "baddbmm"),
    slicing=Slicing(cut=cut, of_free=of_free, seen_as="_softmax"),
    parts=("unet",),
)
