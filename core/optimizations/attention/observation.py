"""What the attention calls of one job really did, and the effect that follows from it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch

from core.optimizations.attention.backend import Backend, starts_with
from core.optimizations.attention.slicing import Allowance, Cut, Part, Shape
from core.optimizations.slice_budget import Budget, extremes
from core.record import OperatorCounter, SlotRecord
from core.run import Effect


@dataclass
class Seen:
    """One shape under one cut: how often it was called, and what its first call showed."""

    calls: int = 0
    operators: Counter[str] = field(default_factory=Counter)
    slices: int = 0
    """Slices of the score matrix, or whole ones, computed by the call."""
    largest_slice: int = 0
    """Bytes."""
    flag_stood: bool = True


class _CallWatcher(OperatorCounter):
    """Watches one call: its operators, its score matrices, and the backend's flag."""

    def __init__(self, seen: Seen, backend: Backend) -> None:
        super().__init__(seen.operators)
        self.seen = seen
        self.flag = backend.flag
        self.slice = backend.slicing.seen_as if backend.slicing else "baddbmm"

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if self.flag is not None:
            self.seen.flag_stood &= self.flag.stands()
        if func._schema.name.removeprefix("aten::").startswith(self.slice):
            self.seen.slices += 1
            self.seen.largest_slice = max(self.seen.largest_slice, result.nbytes)
        return result


class Observation:
    """Runs a backend's kernel and keeps notes.

    Operators are watched on the first call of each shape under each cut, and multiplied by its
    calls: these two decide the operators, and watching every call would cost about 8 µs for each
    of them, with sub-quadratic more than a tenth of a small UNet's time.
    """

    def __init__(self, backend: Backend, budget: Budget) -> None:
        self.backend = backend
        self.budget = budget
        self.seen: dict[tuple[Shape, Cut], Seen] = {}
        self.allowances: list[Allowance] = []
        """One for each call that asked for a budget."""

    def call(
        self, part: Part, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """The kernel's own result on (batch, heads, tokens, head_dim)."""
        shape = Shape(
            part, tuple(query.shape), key.shape[2], query.element_size(), str(query.device)
        )
        cut = self._cut(shape)
        seen = self.seen.get((shape, cut))
        if seen is not None:
            out = self.backend.kernel(query, key, value, scale, cut)
        else:
            seen = Seen()
            with _CallWatcher(seen, self.backend):
                out = self.backend.kernel(query, key, value, scale, cut)
            self.seen[shape, cut] = seen
        seen.calls += 1
        return out

    def _cut(self, shape: Shape) -> Cut:
        slicing = self.backend.slicing
        if slicing is None:
            return shape.whole
        if slicing.of_free is None:
            return slicing.cut(shape, Allowance(shape.score_bytes))
        allowance = self.budget.allowance(shape, slicing.of_free(shape))
        self.allowances.append(allowance)
        return slicing.cut(shape, allowance)

    def conclude(self, notes: SlotRecord, preface: str = "", closing: str = "") -> None:
        """Write counts, operators and the effect into the notes of the slot.

        `preface` and `closing` go around the reason.
        """
        for (shape, _), seen in self.seen.items():
            notes.counts[str(shape)] += seen.calls
            notes.counts["calls"] += seen.calls
            notes.counts[f"{shape.part}_calls"] += seen.calls
            for name, count in seen.operators.items():
                notes.operators[name] += count * seen.calls
        notes.counts["calls_watched"] = len(self.seen)
        if slices := sum(seen.slices * seen.calls for seen in self.seen.values()):
            notes.counts["slices"] = slices
            notes.counts["largest_score_bytes"] = max(s.score_bytes for s, _ in self.seen)
            notes.counts["largest_slice_bytes"] = max(
                seen.largest_slice for seen in self.seen.values()
            )
        if self.allowances:
            notes.counts.update(extremes(self.allowances))
        effect, reason = self._effect(notes.operators)
        notes.conclude(effect, f"{preface}{reason}{closing}")

    def _effect(self, operators: Counter[str]) -> tuple[Effect, str]:
        name, slicing = self.backend.name, self.backend.slicing
        if not self.seen:
            return "none", "no attention call of this run came through the setting"
        for operator in sorted(operators):
            if starts_with(self.backend.excludes, operator):
                return "fell-back", f"{operator} ran, which is no part of {name}"
        for group in self.backend.made_of:
            if not any(starts_with(group, operator) for operator in operators):
                return "fell-back", f"{name} is made of {' or '.join(group)}, and none ran"
        if self.backend.flag and not all(seen.flag_stood for seen in self.seen.values()):
            return "fell-back", self.backend.flag.otherwise
        if slicing:
            for (shape, cut), seen in self.seen.items():
                if seen.slices != (meant := cut.slices(shape)):
                    return "fell-back", (
                        f"{shape} was to be cut into {meant} slices, and {seen.slices} were seen"
                    )
            if all(seen.slices <= 1 for seen in self.seen.values()):
                return "none", slicing.uncut
        return "applied", (
            f"operators were counted on the first call of each of {len(self.seen)} "
            f"{'pairs of shape and cut' if slicing else 'shapes'} and multiplied by its calls"
        )
