"""Which pictures must be equal for an axis to hold, and whether two runs may be compared at all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit.plan import PlannedRun
from audit.score import AXES, Axis
from core.run import Picture, Run

Runs = Mapping[str, Run]
"""Runs by `PlannedRun.identity`; those of a plan that are not there yet are missing."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two pictures that should be equal, as runs and positions in their batches."""

    first: PlannedRun
    second: PlannedRun
    first_picture: int = 0
    second_picture: int = 0

    def pictures(self, runs: Runs) -> tuple[Picture, Picture] | None:
        """Both pictures, or None while one is missing or its run failed."""
        found = [
            runs[planned.identity].pictures[position]
            for planned, position in (
                (self.first, self.first_picture),
                (self.second, self.second_picture),
            )
            if done(planned, runs)
        ]
        return (found[0], found[1]) if len(found) == 2 else None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One independent attempt at one axis: a cluster. It fails where any of its pairs differs."""

    axis: Axis
    cluster: int
    pairs: tuple[Pair, ...]


class Processes:
    """Which process labels really shared a process. Asked by every trial of an audit."""

    def __init__(self, planned: Sequence[PlannedRun], runs: Runs) -> None:
        self._labels: dict[str, set[str]] = {}
        for entry in planned:
            if run := runs.get(entry.identity):
                self._labels.setdefault(run.environment.process_id, set()).add(entry.process)

    def labels(self, process_id: str) -> frozenset[str]:
        return frozenset(self._labels[process_id])


def done(planned: PlannedRun, runs: Runs) -> bool:
    """Whether the run is there and made all its pictures."""
    run = runs.get(planned.identity)
    return run is not None and run.outcome == "ok" and len(run.pictures) == len(run.job.requests)


def trials(planned: Sequence[PlannedRun]) -> dict[Axis, list[Trial]]:
    """All trials of one row (a configuration, or the placebo), by axis; see `PlannedRun`."""
    found: dict[Axis, list[Trial]] = {axis: [] for axis in AXES}
    for cluster, entries in clusters(planned).items():
        for axis, pairs in _pairs(entries):
            found[axis].append(Trial(axis=axis, cluster=cluster, pairs=tuple(pairs)))
    return found


def clusters(planned: Sequence[PlannedRun]) -> dict[int, list[PlannedRun]]:
    """The runs by cluster, in order."""
    found: dict[int, list[PlannedRun]] = {}
    for entry in sorted(planned, key=lambda entry: entry.cluster):
        found.setdefault(entry.cluster, []).append(entry)
    return found


def first_pictures(row: Sequence[PlannedRun], runs: Runs) -> dict[int, Picture]:
    """By cluster, the picture of run a/0: the first call of a row's first process."""
    found: dict[int, Picture] = {}
    for cluster, entries in clusters(row).items():
        calls = determinism_calls(entries)
        if calls and done(calls[0][0], runs):
            found[cluster] = runs[calls[0][0].identity].pictures[0]
    return found


def determinism_calls(entries: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
    """The repeated calls of one row's cluster by process, `a` first, each in order.

    Those are the determinism runs, and timing runs whose process serves the cluster alone.
    """
    processes: dict[tuple[bool, str], list[PlannedRun]] = {}
    for entry in entries:
        if entry.role == "determinism" or entry.own_process:
            processes.setdefault((entry.own_process, entry.process), []).append(entry)
    return [
        sorted(calls, key=lambda entry: (entry.repeat, entry.block or 0))
        for _, calls in sorted(processes.items())
    ]


def _pairs(entries: Sequence[PlannedRun]) -> Iterator[tuple[Axis, list[Pair]]]:
    processes = determinism_calls(entries)
    if not processes:
        return
    start, others = processes[0][0], processes[1:]
    by_role: dict[str, list[PlannedRun]] = {}
    for entry in entries:
        by_role.setdefault(entry.role, []).append(entry)
    again = [Pair(first=calls[0], second=call) for calls in processes for call in calls[1:]]
    if again:
        yield "same-process", again
    if others:
        yield "fresh-process", [Pair(first=start, second=calls[0]) for calls in others]
    against_start: tuple[Axis, ...] = (
        "after-other-work",
        "batch-size",
        "threads",
        "instruction-set",
    )
    for axis in against_start:
        if runs := by_role.get(axis):
            yield axis, [Pair(first=start, second=run) for run in runs]
    positions = [
        Pair(first=front, second=run, second_picture=len(run.job.requests) - 1)
        for run in by_role.get("batch-position", ())
        for front in by_role.get("batch-size", ())
        if len(front.job.requests) == len(run.job.requests)
    ]
    if positions:
        yield "batch-position", positions


def why_rejected(axis: Axis, pair: Pair, runs: Runs, processes: Processes) -> str | None:
    """Why two runs do not test what they were planned to, in one sentence; None where they do.

    A label stands for one process and a process for one label. Where that was not so (a worker
    reused, a process replaced in the middle) the comparison answers another question.
    """
    first, second = (runs[entry.identity].environment for entry in (pair.first, pair.second))
    for environment in (first, second):
        if len(labels := processes.labels(environment.process_id)) > 1:
            return f"one process did the work of {len(labels)} that had to be separate"
    if axis == "same-process" and first.process_id != second.process_id:
        return "its calls did not share a process"
    if axis != "same-process" and first.process_id == second.process_id:
        return "its runs shared a process"
    if axis == "fresh-process" and (first.calls_before or second.calls_before):
        return "a process that had to be fresh had done other work"
    if axis == "after-other-work" and not second.calls_before:
        return "the process had done no other work"
    if axis == "instruction-set" and first.instruction_set == second.instruction_set:
        return f"both its runs computed with {first.instruction_set} kernels"
    return None
