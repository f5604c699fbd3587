"""How long a configuration takes and how much memory, from the timing runs of a plan."""

from collections.abc import Sequence
from dataclasses import dataclass

from audit.plan import PlannedRun, Role
from audit.score import MemoryRange, TimedRuns, TimeRatio
from audit.statistics import median, spread, time_ratio
from audit.trials import Runs, done
from core.workload import Workload, workload_of

NOISY = 0.10
"""Interquartile range ÷ median from which repeats are called noisy, as torch.utils.benchmark."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One row's figures; None where there were no timing runs."""

    ratio: TimeRatio | None
    seconds_median: float | None
    timed: tuple[TimedRuns, ...]
    spread: float | None
    """Interquartile range ÷ median of the ratios: noise that pairing did not take away."""
    peak_memory_bytes: int | None
    memory_kind: str
    memory_range: MemoryRange | None


def timing(
    row: Sequence[PlannedRun],
    baseline: Sequence[PlannedRun],
    runs: Runs,
    role: Role = "timing",
) -> Timing:
    """Figures of one row's timing runs, paired with the baseline's of the same block and request.

    Block 0 warms up and is left out of everything.
    """
    timed = scored(row, runs, role)
    partners = {_place(run): run for run in scored(baseline, runs, role)}
    sessions: dict[str, list[tuple[float, float]]] = {}
    for run in timed:
        if partner := partners.get(_place(run)):
            pair = (seconds(run, runs), seconds(partner, runs))
            if min(pair) > 0:
                sessions.setdefault(run.group, []).append(pair)
    peaks = [
        (memory.peak_bytes, memory.kind)
        for run in timed
        if (memory := runs[run.identity].memory).peak_bytes is not None
    ]
    peak, kind = max(peaks) if peaks else (None, "")
    return Timing(
        ratio=time_ratio([pairs for _, pairs in sorted(sessions.items())]),
        seconds_median=median([seconds(run, runs) for run in timed]),
        timed=_by_workload(timed, runs),
        spread=spread([a / b for pairs in sessions.values() for a, b in pairs]),
        peak_memory_bytes=peak,
        memory_kind=kind,
        memory_range=_range([size for size, _ in peaks]),
    )


def _by_workload(timed: Sequence[PlannedRun], runs: Runs) -> tuple[TimedRuns, ...]:
    """Those with most runs first."""
    found: dict[Workload, list[float]] = {}
    for run in timed:
        found.setdefault(workload_of(runs[run.identity]), []).append(seconds(run, runs))
    return tuple(
        TimedRuns(
            workload=workload,
            fastest=min(values),
            median=median(values) or 0.0,
            slowest=max(values),
            runs=len(values),
        )
        for workload, values in sorted(found.items(), key=lambda entry: -len(entry[1]))
    )


def _place(run: PlannedRun) -> tuple[str, int | None, int, int]:
    """What a pair shares: its session, its block, its request or its batch."""
    return run.group, run.block, run.cluster, run.repeat


def _range(peaks: Sequence[int]) -> MemoryRange | None:
    if not peaks:
        return None
    return MemoryRange(smallest=min(peaks), largest=max(peaks), runs=len(peaks))


def scored(planned: Sequence[PlannedRun], runs: Runs, role: Role = "timing") -> list[PlannedRun]:
    """The timed runs that count: not where the environment says that times mean nothing."""
    return [
        run
        for run in planned
        if run.role == role
        and run.block
        and done(run, runs)
        and not runs[run.identity].environment.timing_caveat
    ]


def seconds(planned: PlannedRun, runs: Runs) -> float:
    """Seconds per picture of one finished run, without load, encoding and saving."""
    run = runs[planned.identity]
    return run.timings.picture / len(run.pictures)
