"""Attention two rows (batch times heads) at a time, whatever they take.

The first split attention, from github.com/basujindal/stable-diffusion pull request 117, as A1111
v1.10.1 has it under "V1": it follows no budget. It leaves the VAE alone.
"""

import torch

from core.optimizations.attention.backend import FUSED, Backend
from core.optimizations.attention.slicing import Allowance, Cut, Shape, Slicing

ROWS = 2


def cut(shape: Shape, allowance: Allowance) -> Cut:
    return Cut(ROWS, shape.queries, shape.keys)


def kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, cut: Cut
) -> torch.Tensor:
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))
    out = torch.empty_like(q)
    for start in range(0, q.shape[0], cut.rows):
        rows = slice(start, start + cut.rows)
        scores = torch.bmm(q[rows], k[rows].transpose(1, 2)).mul_(scale)
        out[rows] = torch.bmm(scores.softmax(-1), v[rows])
    return out.view(query.shape)


SPLIT_V1 = Backend(
    name="split-v1",
    summary="Attention for two heads at a time, whatever they take; not in the VAE.",
    changes="Time; rounding.",
    kernel=kernel,
    made_of=(("bmm",), ("mul_",), ("_softmax",)),
    excludes=(*FUSED, "baddbmm"),
    slicing=Slicing(
        cut=cut,
        of_free=None,
        seen_as="_softmax",
        uncut=f"no call had more than {ROWS} rows (batch times heads), so nothing was cut",
    ),
    parts=("unet",),
)
