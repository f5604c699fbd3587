"""Attention as in the textbook: the whole score matrix, its softmax, and a second product.

It takes the VAE too. A1111's None leaves the VAE's layer as it comes there, and that computes just
this; as it comes in diffusers it would run torch's fused attention.
"""

import torch

from core.optimizations.attention.backend import FUSED, Backend
from core.optimizations.attention.slicing import Cut


def kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, cut: Cut
) -> torch.Tensor:
    """softmax(scale QKᵀ)V (Vaswani et al. 2017, arXiv:1706.03762, equation 1)."""
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))
    scores = q.new_empty(q.shape[0], q.shape[1], k.shape[1])
    scores.baddbmm_(q, k.transpose(1, 2), beta=0, alpha=scale)
    return torch.bmm(scores.softmax(-1), v).view(query.shape)


NONE = Backend(
    name="none",
    summary="No optimization: the whole attention matrix in memory.",
    changes="Memory that grows with the square of the picture's area; rounding.",
    kernel=kernel,
    made_of=(("baddbmm",), ("_softmax",), ("bmm",)),
    excludes=FUSED,
)
