"""How busy this machine is, looked at while somebody looks."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

from core.measurement import gpu_utilization

PERIOD = 1.0
"""Seconds between two samples at least, however many people look."""
WINDOW = 120.0
"""Seconds that samples are kept."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One moment. A figure is None where it cannot be told, or not yet."""

    at: float
    """Monotonic seconds."""
    cpu_share: float | None
    """Of all cores together, all programs, since the sample before."""
    memory_bytes: int
    """In use on the machine, by all programs."""
    memory_total: int
    worker_bytes: int | None
    """Resident in the process that makes pictures; None while there is none."""
    worker_cores: float | None
    """How many cores it kept busy since the sample before."""
    gpu_share: float | None = None
    """As NVML told, for all programs."""
    gpu_bytes: int | None = None
    gpu_total: int | None = None


class Sampler:
    """Samples on demand, shared by everybody who looks; while nobody does, nothing runs.

    Differences are of our own counts: those that `psutil.cpu_percent` keeps are the calling
    thread's, and a server answers from many threads.
    """

    def __init__(
        self,
        device: torch.device,
        worker: Callable[[], int | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = device
        self._worker = worker
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: deque[Sample] = deque()
        self._cpu: tuple[float, float] | None = None
        self._process: tuple[psutil.Process, float, float] | None = None
        """The worker, and when it had used how many seconds of processor time."""

    def look(self) -> tuple[Sample, ...]:
        """The samples of the last two minutes, the newest last; there is at least one."""
        with self._lock:
            now = self._clock()
            if not self._samples or now - self._samples[-1].at >= PERIOD:
                self._samples.append(self._sample(now))
            while now - self._samples[0].at > WINDOW:
                self._samples.popleft()
            return tuple(self._samples)

    def fresh(self) -> Sample:
        """A sample of this very moment, beside the others."""
        with self._lock:
            return self._sample(self._clock())

    def _sample(self, now: float) -> Sample:
        memory = psutil.virtual_memory()
        worker_bytes, worker_cores = self._worker_use(now)
        gpu = self._device.type == "cuda"
        busy = gpu_utilization(self._device)
        free, total = torch.cuda.mem_get_info(self._device) if gpu else (0, 0)
        return Sample(
            at=now,
            cpu_share=self._cpu_share(),
            memory_bytes=memory.total - memory.available,
            memory_total=memory.total,
            worker_bytes=worker_bytes,
            worker_cores=worker_cores,
            gpu_share=None if busy is None else busy / 100,
            gpu_bytes=total - free if gpu else None,
            gpu_total=total if gpu else None,
        )

    def _cpu_share(self) -> float | None:
        times = psutil.cpu_times()
        # Linux counts a guest's time in the host's as well.
        whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        busy = whole - times.idle - getattr(times, "iowait", 0.0)
        before, self._cpu = self._cpu, (busy, whole)
        if before is None or whole <= before[1]:
            return None
        return min(1.0, max(0.0, (busy - before[0]) / (whole - before[1])))

    def _worker_use(self, now: float) -> tuple[int | None, float | None]:
        pid, before = self._worker(), self._process
        self._process = None
        if pid is None:
            return None, None
        try:
            process = before[0] if before and before[0].pid == pid else psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None, None
            times = process.cpu_times()
            resident: int = process.memory_info().rss
        except psutil.Error:
            return None, None
        used = times.user + times.system
        self._process = (process, now, used)
        if before is None or before[0] != process or now <= before[1]:
            return resident, None
        return resident, max(0.0, (used - before[2]) / (now - before[1]))
