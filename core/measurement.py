"""Seconds by stage; by part of the pipeline also processor time and peak memory, of one run."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import torch

from core.run import Memory, Part, PartName, Timings, Usage

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class Stopwatch:
    """Collects wall seconds by stage; waits for the device, so that queued work is counted."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stages: dict[str, float] = {}
        self.steps: list[float] = []
        self.memory = PeakMemory(device)
        self.parts: dict[PartName, Part] = {}
        self.loaded_bytes: int | None = None
        """In use once the pipeline stood ready."""
        self.broken_in = ""
        """The stage that an exception left first; empty where none did."""
        self._began, self._cpu_began = self.now(), time.process_time()
        self._busy: list[int] | None = []

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.memory.lap()
        start = self.now()
        try:
            yield
        except BaseException:
            self.broken_in = self.broken_in or name
            raise
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + self.now() - start

    @contextmanager
    def part(self, name: PartName) -> Iterator[None]:
        """One call of a part. Its peak memory is the highest since the part before it ended, or
        the stage began: with what was made ready for it."""
        cpu, start = time.process_time(), self.now()
        yield
        seconds, peak = self.now() - start, self.memory.lap()
        former = self.parts.get(name, Part(name=name))
        highest = [known for known in (former.peak_bytes, peak) if known is not None]
        self.parts[name] = replace(
            former,
            calls=former.calls + 1,
            seconds=former.seconds + seconds,
            cpu_seconds=former.cpu_seconds + time.process_time() - cpu,
            peak_bytes=max(highest, default=None),
        )

    def step(self, seconds: float) -> None:
        """Note a denoising step, and how busy the GPU was at its end."""
        self.steps.append(seconds)
        if self._busy is not None:
            busy = gpu_utilization(self.device)
            self._busy = None if busy is None else [*self._busy, busy]

    def timings(self) -> Timings:
        return Timings(**self.stages, steps=tuple(self.steps))

    def usage(self) -> Usage:
        return Usage(
            parts=tuple(self.parts.values()),
            loaded_bytes=self.loaded_bytes,
            seconds=self.now() - self._began,
            cpu_seconds=time.process_time() - self._cpu_began,
            gpu_percent=sum(self._busy) / len(self._busy) if self._busy else None,
        )


def gpu_utilization(device: torch.device) -> int | None:
    """Percent of NVML's last sampling period in which the GPU computed, for whomever; None without
    an NVIDIA GPU and the package that asks its driver."""
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.utilization(device)
    except Exception:
        # NVML raises errors of its own, whose package is what may be missing.
        return None


class PeakMemory:
    """The most memory used since it was made, as far as this device can tell."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._highest = 0
        self._highest_reserved = 0
        self._reset = False
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu":
            self._reset = _reset_high_water_mark()

    def lap(self) -> int | None:
        """Peak bytes since the last lap, or since it was made; None where this device cannot tell.

        The mark is the process's, so that two of these at a time would disturb each other.
        """
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
            reserved = torch.cuda.max_memory_reserved(self.device)
            self._highest_reserved = max(self._highest_reserved, reserved)
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self._reset:
            peak = _high_water_mark()
            _reset_high_water_mark()
        else:
            return None
        self._highest = max(self._highest, peak)
        return peak

    def in_use(self) -> int | None:
        """Bytes at this moment, of the same kind as the peak."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return psutil.Process().memory_info().rss if self.device.type == "cpu" else None

    def read(self) -> Memory:
        self.lap()
        if self.device.type == "cuda":
            return Memory(
                peak_bytes=self._highest,
                reserved_bytes=self._highest_reserved,
                kind="allocated on the device",
            )
        if self.device.type == "mps":
            return Memory(peak_bytes=None, kind="Metal keeps no peak: not measured")
        if self._reset:
            return Memory(peak_bytes=self._highest, kind="process high-water mark")
        return Memory(
            peak_bytes=_since_the_start(),
            kind="process high-water mark since the process started",
        )


def _since_the_start() -> int:
    """The highest of the process's whole life, in bytes."""
    if sys.platform == "win32":
        peak: int = psutil.Process().memory_info().peak_wset
        return peak
    import resource  # Windows has no such module.

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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
