"""Whether pictures still take as long here as when an audit timed them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.score import Audit, TimedRuns
from audit.statistics import MIN_PAIRS, median, noise_floor
from audit.units import counted, ratio, seconds
from core.run import Run
from core.workload import picture_seconds, workload_of

LEAST = MIN_PAIRS
"""Below this many pictures nothing is said, as with an audit's pairs."""
NEWEST = 20
"""The newest pictures that count: what was slow last month and is not now, has not moved."""


@dataclass(frozen=True, kw_only=True)
class PaceChange:
    """A row whose pictures take another time here than its audit measured."""

    key: str
    then: TimedRuns
    now: float
    """Median seconds per picture of the runs since."""
    runs: int
    """How many those are."""
    pictures: int
    noise: float
    """The factor that a difference in time had to exceed, at least 1."""

    @property
    def ratio(self) -> float:
        """Now ÷ then, of medians."""
        return self.now / self.then.median

    @property
    def sentence(self) -> str:
        then, word = self.then, "slower" if self.ratio > 1 else "faster"
        return (
            f"{self.key} has become {word}: measured then {seconds(then.median)} "
            f"({seconds(then.fastest)} to {seconds(then.slowest)}, {counted(then.runs, 'run')}), "
            f"now {seconds(self.now)} over {counted(self.pictures, 'picture')} "
            f"({ratio(self.ratio)}): audit again."
        )


def pace_changes(audit: Audit, runs: Iterable[Run]) -> tuple[PaceChange, ...]:
    """Rows that moved since the audit, in its order; `runs` are pictures made here, in any order.

    The rule: of the runs with a timed row's very workload (platform, model, settings, size, steps,
    sampler, schedule, guidance, pictures at a time, chunks of prompt, threads) that began after
    the audit and are not their process's first, which warms up, the newest 20 count. From 6 on,
    the row has moved where their median lies outside everything the audit timed of that workload,
    from its fastest to its slowest run, by more than the audit's noise: 2 %, or what its placebo
    strayed.
    """
    since = audit.finished_at or audit.started_at
    noise = noise_of(audit)
    later = sorted(
        (run for run in runs if _counts(run, since)),
        key=lambda run: run.environment.started_at,
        reverse=True,
    )
    changes = (
        _change(score.key, timed, later, noise)
        for score in audit.scores
        if not score.placebo
        for timed in score.timed
    )
    return tuple(change for change in changes if change is not None)


def noise_of(audit: Audit) -> float:
    """The factor below which a difference in time means nothing in this audit."""
    placebo = next((score.time_ratio for score in audit.scores if score.placebo), None)
    return math.exp(noise_floor(placebo))


def _counts(run: Run, since: str) -> bool:
    environment = run.environment
    return run.outcome == "ok" and environment.calls_before > 0 and environment.started_at > since


def _change(key: str, timed: TimedRuns, later: Sequence[Run], noise: float) -> PaceChange | None:
    alike = [run for run in later if workload_of(run) == timed.workload][:NEWEST]
    now = median([picture_seconds(run) for run in alike])
    if now is None or len(alike) < LEAST:
        return None
    if timed.fastest / noise <= now <= timed.slowest * noise:
        return None
    pictures = sum(len(run.pictures) for run in alike)
    return PaceChange(key=key, then=timed, now=now, runs=len(alike), pictures=pictures, noise=noise)


def told(changes: Sequence[PaceChange], answer: str | None, baseline: str) -> tuple[str, ...]:
    """What a recommendation has to say of them: its own row and the baseline in a sentence each,
    the others by their number."""
    mine = [change for change in changes if change.key in (answer, baseline)]
    others = len({change.key for change in changes} - {answer, baseline})
    more = f"{counted(others, 'other configuration')} moved as well: audit again."
    return (*(change.sentence for change in mine), *([more] if others else ()))
