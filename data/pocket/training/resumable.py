"""Training loops that go on where they were stopped: everything that moves, in one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch

EVERY = 100
"""Steps between two saves."""


class Stateful(Protocol):
    """A network, an optimizer or a schedule."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> Any: ...


def steps(path: Path, total: int, parts: dict[str, Stateful], losses: list[float]) -> Iterator[int]:
    """The steps that are left of `total`, from 0; the state is saved every EVERY of them and after
    the last, and the mean of the `losses` since then is printed. torch's generator is saved too,
    so that a loop that takes its chances from it alone ends the same, stopped or not."""
    first = 0
    if path.exists():
        saved = torch.load(path)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["random"])
        first = saved["steps"]
    for step in range(first, total):
        yield step
        done = step + 1
        if done % EVERY == 0 or done == total:
            state = {name: part.state_dict() for name, part in parts.items()}
            fresh = path.with_suffix(".part")
            torch.save(state | {"random": torch.get_rng_state(), "steps": done}, fresh)
            fresh.replace(path)
            latest = losses[-EVERY:]
            mean = sum(latest) / max(1, len(latest))
            print(f"{path.stem}: {done} of {total} steps, loss {mean:.4f}", flush=True)
