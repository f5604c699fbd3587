"""Attention in memory that grows slower than the square of the tokens.

Rabe and Staats 2021, "Self-attention does not need O(n²) memory" (arXiv:2112.05682): queries and
keys are cut into chunks; a running maximum and a running sum make the softmax exact. A1111 v1.10.1
keeps a chunk of keys above a minimum that can exceed its threshold; here slices keep to the budget.
"""

import math

import torch

from core.optimizations.attention.backend import FUSED, Backend
from core.optimizations.attention.slicing import Allowance, Cut, Shape, Slicing

QUERY_CHUNK = 1024
"""Queries in one chunk, as in A1111."""
FREE_SHARE = 0.7
"""Of free memory, where the budget follows it, as in A1111."""


def of_free(shape: Shape) -> float:
    return FREE_SHARE


def cut(shape: Shape, allowance: Allowance) -> Cut:
    elements = allowance.slice_bytes // shape.element_size
    return Cut(shape.rows, *chunks(shape.rows, shape.queries, shape.keys, elements))


def chunks(rows: int, queries: int, keys: int, elements: int) -> tuple[int, int]:
    """Queries and keys of one slice, given the elements that (rows, queries, keys) may have.

    A chunk of keys is what the budget holds beside a chunk of queries: all keys, which leaves plain
    query slicing, or fewer, but not below √keys (the paper's choice); then queries give way.
    """
    query_chunk = min(QUERY_CHUNK, queries)
    key_chunk = min(max(elements // (rows * query_chunk), math.isqrt(keys)), keys)
    query_chunk = min(query_chunk, max(elements // (rows * key_chunk), 1))
    return query_chunk, key_chunk


def kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, cut: Cut
) -> torch.Tensor:
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))
    keys, values = torch.split(k, cut.keys, 1), torch.split(v, cut.keys, 1)
    out = [_attend(part, keys, values, scale) for part in torch.split(q, cut.queries, 1)]
    return torch.cat(out, dim=1).view(query.shape)


def _attend(
    q: torch.Tensor, keys: tuple[torch.Tensor, ...], values: tuple[torch.Tensor, ...], scale: float
) -> torch.Tensor:
    """One chunk of queries against all keys, (rows, queries, head_dim)."""
    column = (*q.shape[:2], 1)
    highest = q.new_full(column, -math.inf)
    # Sums over all keys: in half precision they would lose what the chunks add last.
    total = q.new_zeros(column, dtype=torch.float32)
    weighted = q.new_zeros(q.shape, dtype=torch.float32)
    for k, v in zip(keys, values, strict=True):
        scores = q.new_empty(q.shape[0], q.shape[1], k.shape[1])
        scores.baddbmm_(q, k.transpose(1, 2), beta=0, alpha=scale)
        raised = torch.maximum(highest, scores.amax(-1, keepdim=True))
        weights = scores.sub_(raised).exp_()
        shrink = (highest - raised).exp()
        total = total * shrink + weights.sum(-1, keepdim=True, dtype=torch.float32)
        weighted = weighted * shrink + torch.bmm(weights, v)
        highest = raised
    return (weighted / total).to(q.dtype)


SUB_QUADRATIC = Backend(
    name="sub-quadratic",
    summary="Attention in slices of queries and keys: less memory, exact up to rounding.",
    changes="Time; rounding.",
    kernel=kernel,
    made_of=(("baddbmm",), ("amax",), ("exp",), ("bmm",)),
    excludes=(*FUSED, "_softmax"),
    slicing=Slicing(cut=cut, of_free=of_free, seen_as="baddbmm"),
)
