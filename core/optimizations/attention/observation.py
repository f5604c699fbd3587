"""What the attention calls of one job really did, and the effect that follows from it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch

from core.optimizations.attention.backend import Backend, starts_with
from core.record import OperatorCounter, SlotRecord
from core.run import Effect


@dataclass(frozen=True)
class Shape:
    """What decides the operators of a call. `part` is `unet` or `vae`."""

    part: str
    query: tuple[int, ...]
    """(batch, heads, tokens, head_dim)"""
    keys: int
    element_size: int

    def __str__(self) -> str:
        return f"{self.part} {'x'.join(map(str, self.query))} on {self.keys} keys"

    @property
    def score_bytes(self) -> int:
        """Bytes of the whole score matrix, (batch, heads, tokens, keys)."""
        batch, heads, tokens, _ = self.query
        return batch * heads * tokens * self.keys * self.element_size


@dataclass
class Seen:
    """One shape: how often it was called, and what its first call showed."""

    calls: int = 0
    operators: Counter[str] = field(default_factory=Counter)
    slices: int = 0
    """Score matrices computed by the call."""
    largest_slice: int = 0
    """Bytes."""
    budget: int = 0
    """Bytes that a slice was allowed."""
    flag_stood: bool = True


class _CallWatcher(OperatorCounter):
    """Watches one call: its operators, its score matrices, and the backend's flag."""

    def __init__(self, seen: Seen, backend: Backend) -> None:
        super().__init__(seen.operators)
        self.seen = seen
        self.flag = backend.flag

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if self.flag is not None:
            self.seen.flag_stood &= self.flag.stands()
        if func._schema.name.startswith("aten::baddbmm"):
            self.seen.slices += 1
            self.seen.largest_slice = max(self.seen.largest_slice, result.nbytes)
        return result


class Observation:
    """Runs a backend's kernel and keeps notes.

    Operators are watched on the first call of each shape and multiplied by its calls: a shape
    decides its operators, and watching every one would cost about 8 µs each, with sub-quadratic
    more than a tenth of a small UNet's time.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.shapes: dict[Shape, Seen] = {}

    def call(
        self, part: str, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """The kernel's own result on (batch, heads, tokens, head_dim)."""
        shape = Shape(part, tuple(query.shape), key.shape[2], query.element_size())
        seen = self.shapes.get(shape)
        if seen is not None:
            out = self.backend.kernel(query, key, value, scale)
        else:
            seen = Seen(budget=self.backend.budget(query, key) if self.backend.budget else 0)
            with _CallWatcher(seen, self.backend):
                out = self.backend.kernel(query, key, value, scale)
            self.shapes[shape] = seen
        seen.calls += 1
        return out

    def conclude(self, notes: SlotRecord) -> None:
        """Write counts, operators and the effect into the notes of the slot."""
        for shape, seen in self.shapes.items():
            notes.counts[str(shape)] += seen.calls
            notes.counts["calls"] += seen.calls
            notes.counts[f"{shape.part}_calls"] += seen.calls
            for name, count in seen.operators.items():
                notes.operators[name] += count * seen.calls
        notes.counts["calls_watched"] = len(self.shapes)
        if slices := sum(seen.slices * seen.calls for seen in self.shapes.values()):
            notes.counts["slices"] = slices
            notes.counts["largest_score_bytes"] = max(s.score_bytes for s in self.shapes)
            notes.counts["largest_slice_bytes"] = max(
                seen.largest_slice for seen in self.shapes.values()
            )
        if self.backend.budget:
            notes.counts["largest_budget_bytes"] = max(
                (seen.budget for seen in self.shapes.values()), default=0
            )
        notes.conclude(*self._effect(notes.operators))

    def _effect(self, operators: Counter[str]) -> tuple[Effect, str]:
        name = self.backend.name
        if not self.shapes:
            return "none", "no attention call of this run came through the setting"
        for operator in sorted(operators):
            if starts_with(self.backend.excludes, operator):
                return "fell-back", f"{operator} ran, which is no part of {name}"
        for group in self.backend.made_of:
            if not any(starts_with(group, operator) for operator in operators):
                return "fell-back", f"{name} is made of {' or '.join(group)}, and none ran"
        if self.backend.flag and not all(seen.flag_stood for seen in self.shapes.values()):
            return "fell-back", self.backend.flag.otherwise
        if self.backend.budget and all(seen.slices <= 1 for seen in self.shapes.values()):
            return "none", "every score matrix fitted into the budget, so nothing was cut"
        return "applied", (
            f"operators were counted on the first call of each of {len(self.shapes)} shapes "
            "and multiplied by its calls"
        )
