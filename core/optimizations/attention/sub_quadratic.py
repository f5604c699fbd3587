"""Attention in memory that grows slower than the square of the tokens.

Rabe and Staats 2021, "Self-attention does not need O(n²) memory" (arXiv:2112.05682): queries and
keys are cut into chunks; a running maximum and a running sum make the softmax exact.
"""

import math

import torch

from core.optimizations.attention.backend import FUSED, Backend

QUERY_CHUNK = 1024
"""Queries in one chunk, as in A1111."""
CPU_SHARE = 4
"""On a CPU a slice may take the native score matrix divided by this, so that it really slices."""
GPU_ELEMENTS = 2**28
"""Elements of a slice elsewhere, A1111's figure for Macs. On CUDA it takes 70 % of whatever is
free at that moment, which makes arithmetic depend on other programs: not here."""


def budget(query: torch.Tensor, key: torch.Tensor) -> int:
    """Bytes one slice of the score matrix may take; depends on shapes and device only."""
    batch, heads, tokens, _ = query.shape
    native = batch * heads * tokens * key.shape[2]
    elements = native // CPU_SHARE if query.device.type == "cpu" else GPU_ELEMENTS
    return elements * query.element_size()


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
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> torch.Tensor:
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))
    elements = budget(query, key) // query.element_size()
    query_chunk, key_chunk = chunks(q.shape[0], q.shape[1], k.shape[1], elements)
    keys, values = torch.split(k, key_chunk, 1), torch.split(v, key_chunk, 1)
    out = [_attend(part, keys, values, scale) for part in torch.split(q, query_chunk, 1)]
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
    budget=budget,
)
