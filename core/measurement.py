"""Seconds by stage and peak memory, around one run."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from core.run import Memory, Timings

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class Stopwatch:
    """Collects wall seconds by stage; waits for the device, so that queued work is counted."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stages: dict[str, float] = {}
        self.steps: list[float] = []

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = self.now()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + self.now() - start

    def timings(self) -> Timings:
        return Timings(**self.stages, steps=tuple(self.steps))


class PeakMemory:
    """The most memory used since it was made, as far as this device can tell."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._reset = False
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu":
            self._reset = _reset_high_water_mark()

    def read(self) -> Memory:
        if self.device.type == "cuda":
            return Memory(
                peak_bytes=torch.cuda.max_memory_allocated(self.device),
                reserved_bytes=torch.cuda.max_memory_reserved(self.device),
                kind="allocated on the device",
            )
        if self.device.type == "mps":
            return Memory(peak_bytes=None, kind="Metal keeps no peak: not measured")
        if self._reset:
            return Memory(peak_bytes=_high_water_mark(), kind="process high-water mark")
        unit = 1 if sys.platform == "darwin" else 1024
        return Memory(
            peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
            kind="process high-water mark since the process started",
        )


def _reset_high_water_mark() -> bool:
    """Linux sets VmHWM back to the present size when 5 is written to clear_refs (man 5 proc)."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return _STATUS.exists()


def _high_water_mark() -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")
