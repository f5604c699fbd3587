"""Which configurations are worth choosing between: none closer to the baseline is as fast."""

from collections.abc import Sequence

from audit.recommendation import REQUIRED
from audit.score import DRIFT_VERDICTS, Score, TimeRatio
from audit.statistics import tied


def repeats(row: Score) -> bool:
    """Whether the row was shown to repeat on the axes any recommendation requires."""
    return all(
        axis in row.determinism and row.determinism[axis].verdict == "held" for axis in REQUIRED
    )


def pareto_front(scores: Sequence[Score], baseline: str) -> tuple[str, ...]:
    """Keys from the closest to the farthest, each measurably faster than every closer one.

    Only rows that repeat, did what they were asked and were both compared and timed. Within one
    word of drift the fastest stands for all; the baseline stands for those tied with it.
    """
    placebo = next((row.time_ratio for row in scores if row.placebo), None)
    front: list[Score] = []
    for verdict in DRIFT_VERDICTS:
        rows = [
            row
            for row in scores
            if row.drift is not None
            and row.drift.verdict == verdict
            and row.time_ratio is not None
            and not row.placebo
            and repeats(row)
            and (row.effect == "applied" or row.key == baseline)
        ]
        if not rows:
            continue
        fastest = min(rows, key=lambda row: (_median(row), row.key))
        start = next((row for row in rows if row.key == baseline), fastest)
        if _tied(start, fastest, placebo):
            fastest = start
        if not front or (
            _median(fastest) < _median(front[-1]) and not _tied(fastest, front[-1], placebo)
        ):
            front.append(fastest)
    return tuple(row.key for row in front)


def _median(row: Score) -> float:
    return row.time_ratio.median if row.time_ratio else 1.0


def _tied(a: Score, b: Score, placebo: TimeRatio | None) -> bool:
    if a.time_ratio is None or b.time_ratio is None:
        return True
    return tied(a.time_ratio, b.time_ratio, placebo)
