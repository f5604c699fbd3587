"""How the score matrix of one attention call is cut into slices, and what a slice may take."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

Part = Literal["unet", "vae"]


@dataclass(frozen=True)
class Shape:
    """What decides the operators of a call, beside how it is cut."""

    part: Part
    query: tuple[int, ...]
    """(batch, heads, tokens, head_dim)"""
    keys: int
    element_size: int
    """Bytes."""
    device: str = "cpu"
    """A torch device string."""

    def __str__(self) -> str:
        return f"{self.part} {'x'.join(map(str, self.query))} on {self.keys} keys"

    @property
    def rows(self) -> int:
        """Batch times heads: score matrices that know nothing of each other."""
        return self.query[0] * self.query[1]

    @property
    def queries(self) -> int:
        return self.query[2]

    @property
    def score_bytes(self) -> int:
        """Bytes of the whole score matrix, (rows, queries, keys)."""
        return self.rows * self.queries * self.keys * self.element_size

    @property
    def whole(self) -> "Cut":
        return Cut(self.rows, self.queries, self.keys)


@dataclass(frozen=True)
class Cut:
    """The largest slice of a score matrix: rows, queries and keys, at least one of each."""

    rows: int
    queries: int
    keys: int

    def slices(self, shape: Shape) -> int:
        """How many slices the score matrix of a call falls into."""
        return (
            -(-shape.rows // self.rows)
            * -(-shape.queries // self.queries)
            * -(-shape.keys // self.keys)
        )


@dataclass(frozen=True)
class Allowance:
    """What one call may take for a slice of its score matrix."""

    slice_bytes: int
    free_bytes: int | None = None
    """The free memory it follows from, read for this call; None where it follows from the shape."""


@dataclass(frozen=True, kw_only=True)
class Slicing:
    """How a backend cuts.

    - `cut`: the largest slice for a shape and an allowance.
    - `of_free`: the part of free memory that a slice may take where the budget follows it; None
      for a backend that cuts by no budget.
    - `seen_as`: the operator that runs once for each slice and gives the slice's scores.
    - `uncut`: what to say where no call was cut.
    """

    cut: Callable[[Shape, Allowance], Cut]
    of_free: Callable[[Shape], float] | None
    seen_as: str
    uncut: str = "every score matrix fitted into the budget, so nothing was cut"


def attend_in_slices(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, cut: Cut
) -> torch.Tensor:
    """softmax(scale QKᵀ)V, (batch, heads, tokens, head_dim), by slices of rows and queries.

    The scale goes into the keys, once, and every slice has all keys, so that its softmax is whole.
    """
    q, k, v = (x.flatten(0, 1) for x in (query, key * scale, value))
    out = torch.empty_like(q)
    for row in range(0, q.shape[0], cut.rows):
        rows = slice(row, row + cut.rows)
        keys, values = k[rows].transpose(1, 2), v[rows]
        for start in range(0, q.shape[1], cut.queries):
            queries = slice(start, start + cut.queries)
            weights = torch.bmm(q[rows, queries], keys).softmax(-1)
            out[rows, queries] = torch.bmm(weights, values)
    return out.view(query.shape)
