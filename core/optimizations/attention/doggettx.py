"""Attention in slices of queries: a power of two of them, as few as the budget allows.

Doggettx's split attention (github.com/Doggettx/stable-diffusion), as A1111 v1.10.1 has it: the
whole softmax of each slice, its number doubled until what is needed fits. Where the budget follows
free memory, a call needs 3 times its score matrix in 16 bits and 2.5 times else, in the VAE always
2.5 times; more than 64 slices are refused in the UNet. The VAE is sliced only where the slices come
out even.
"""

from core.optimizations.attention.backend import FUSED, Backend
from core.optimizations.attention.slicing import Allowance, Cut, Shape, Slicing, attend_in_slices

MOST_SLICES = 64


def of_free(shape: Shape) -> float:
    """What a call needs is its score matrix, softmax and copies: a slice gets one part of it."""
    return 1 / (3 if shape.element_size == 2 and shape.part == "unet" else 2.5)


def cut(shape: Shape, allowance: Allowance) -> Cut:
    """Raises RuntimeError where free memory is too little for 64 slices."""
    times = -(-shape.score_bytes // allowance.slice_bytes)
    slices = 1 << (times - 1).bit_length()
    if allowance.free_bytes is not None and shape.part == "unet" and slices > MOST_SLICES:
        raise RuntimeError(
            f"doggettx would have to cut its attention into {slices} slices with "
            f"{allowance.free_bytes / 1e9:.2f} GB free, and takes at most {MOST_SLICES}: make the "
            "picture or the batch smaller, or close other programs"
        )
    if shape.part == "vae" and shape.queries % slices:
        return shape.whole
    return Cut(shape.rows, max(shape.queries // slices, 1), shape.keys)


DOGGETTX = Backend(
    name="doggettx",
    summary="Attention in slices of queries: less memory, each slice's softmax whole.",
    changes="Time; rounding.",
    kernel=attend_in_slices,
    made_of=(("bmm",), ("_softmax",)),
    excludes=(*FUSED, "baddbmm"),
    slicing=Slicing(cut=cut, of_free=of_free, seen_as="_softmax"),
)
