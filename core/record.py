"""What a run writes down while it happens, by slot: counts, operators seen, and the effect."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from core.run import Effect, Effective, SlotEffect, TextSize


class OperatorCounter(TorchDispatchMode):
    """Counts the torch operators that run inside it, by name, without overload suffix.

    Under `torch.no_grad()` it sees the kernel itself, for example
    `_scaled_dot_product_flash_attention_for_cpu`; under `torch.inference_mode()` only the
    composite, so engines use `no_grad`.
    """

    def __init__(self, into: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.into = into

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.into[func._schema.name.removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


class SlotRecord:
    """The notes of one slot. A patch fills it and concludes; unconcluded means `none`."""

    def __init__(self, slot: str, requested: str) -> None:
        self.slot = slot
        self.requested = requested
        self.counts: Counter[str] = Counter()
        self.operators: Counter[str] = Counter()
        self.weights_sha256 = ""
        self._effect: Effect = "none"
        self._reason = "nothing in this run recorded that the setting acted"

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count the operators of one call."""
        with OperatorCounter(self.operators):
            yield

    def conclude(self, effect: Effect, reason: str = "") -> None:
        if effect != "applied" and not reason:
            raise ValueError(f"{self.slot}: an effect of {effect} needs a reason")
        self._effect, self._reason = effect, reason

    def freeze(self) -> SlotEffect:
        return SlotEffect(
            slot=self.slot,
            requested=self.requested,
            effect=self._effect,
            counts={name: float(n) for name, n in sorted(self.counts.items())},
            operators=dict(sorted(self.operators.items())),
            weights_sha256=self.weights_sha256,
            reason=self._reason,
        )


class Record:
    """One run's notes: `slot(...)` opens the notes of a setting, `note` adds a sentence."""

    def __init__(self) -> None:
        self.threads: int | None = None
        """Threads inside one operator, as they were when every setting stood."""
        self._slots: dict[str, SlotRecord] = {}
        self._notes: list[str] = []
        self.unet_calls = 0
        self.prompts: tuple[TextSize, ...] = ()
        self.negative_prompts: tuple[TextSize, ...] = ()

    def slot(self, name: str, requested: str) -> SlotRecord:
        return self._slots.setdefault(name, SlotRecord(name, requested))

    def note(self, sentence: str) -> None:
        if sentence not in self._notes:
            self._notes.append(sentence)

    def see_unet_call(self, sample: torch.Tensor) -> None:
        self.unet_calls += 1

    def freeze(self) -> Effective:
        return Effective(
            slots=tuple(record.freeze() for record in self._slots.values()),
            notes=tuple(self._notes),
            prompts=self.prompts,
            negative_prompts=self.negative_prompts,
            unet_calls=self.unet_calls,
        )
