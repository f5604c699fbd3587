"""Two rows of an audit compared by their verdicts, times, memory and pictures.

Every function takes the audit, what is asked, and the rows; intervals and counts decide, never an
estimate alone.
"""

import math

from audit.measurement import Answer, Measurement
from audit.score import Audit, AxisVerdict, Comparison, MemoryRange, Score, TimeRatio
from audit.selection import name_of, rows_with
from audit.statistics import MIN_PAIRS, SAME, failure_bound, noise_floor, tied
from audit.units import counted, interval, percent
from audit.verdicts import rank

RARE = 0.05
"""A statement about always or never is decided where a failure rate above this is excluded."""
HALF = 0.5
NEAR = 0.05
"""Times that differ by no more than this are alike."""


def repeating(audit: Audit, asked: Measurement, row: Score, than: Score) -> Answer:
    """`repeats`: every failure rate above `RARE` is excluded; a witness refutes it. `may-differ` is
    its opposite. `differs`: more often than not, on one of the axes."""
    tried = {axis: row.determinism[axis] for axis in asked.axes if axis in row.determinism}
    words = [
        f"{axis} {verdict.verdict}, {verdict.trials - verdict.failures} of "
        f"{counted(verdict.trials, 'trial')} agree" + _may_fail(verdict)
        for axis, verdict in tried.items()
    ]
    bounds = [verdict.p_upper95 or 1.0 for verdict in tried.values()]
    all_tried = len(tried) == len(asked.axes) and all(v.trials for v in tried.values())
    limit = HALF if asked.kind == "differs" else RARE
    repeats = True if all_tried and max(bounds) <= limit else None
    for verdict in tried.values():
        often = HALF if asked.kind == "differs" else 0.0
        if verdict.failures and _at_least(verdict.failures, verdict.trials) > often:
            repeats = False
    left_open = f"; failing more than {percent(limit)} of the time is not excluded"
    return Answer(
        agrees=repeats if asked.kind == "repeats" or repeats is None else not repeats,
        sentence=f"{name_of(audit, row)}: {'; '.join(words) or 'not tried'}"
        f"{left_open if repeats is None else ''}.",
    )


def _may_fail(verdict: AxisVerdict) -> str:
    if verdict.failures or verdict.p_upper95 is None:
        return ""
    return f" (fails at most {percent(verdict.p_upper95)})"


def faster(audit: Audit, asked: Measurement, row: Score, than: Score) -> Answer:
    """Only where the two can be told apart (`audit.statistics.tied`)."""
    a, b = row.time_ratio, than.time_ratio
    if a is None or b is None:
        return Answer(agrees=None, sentence=f"{_both(audit, row, than)}: not timed.")
    same = tied(a, b, _placebo_time(audit))
    agrees = None if same else a.median < b.median
    if asked.kind == "alike":
        agrees = _alike(a, b)
    unit = than.key == audit.baseline
    beside = "the baseline" if unit else f"{name_of(audit, than)} with {interval(b)}"
    return Answer(
        agrees=agrees,
        sentence=f"{name_of(audit, row)}: {interval(a)} the baseline's time, "
        f"{'not to be told apart' if same else 'apart'} from {beside}.",
    )


def _placebo_time(audit: Audit) -> TimeRatio | None:
    return next((score.time_ratio for score in audit.scores if score.placebo), None)


def _alike(a: TimeRatio, b: TimeRatio) -> bool | None:
    """Whether the intervals exclude a difference of more than `NEAR`, or anything less."""
    if min(a.pairs, b.pairs) < MIN_PAIRS:
        return None
    if max(a.ci95[1] / b.ci95[0], b.ci95[1] / a.ci95[0]) <= 1 + NEAR:
        return True
    least = max(a.ci95[0] / b.ci95[1], b.ci95[0] / a.ci95[1])
    return False if least > 1 + NEAR else None


def takes(audit: Audit, asked: Measurement, row: Score, than: Score) -> Answer:
    """The whole interval must lie on one side of the limit, farther than differences that mean
    nothing."""
    time, name = row.time_ratio, name_of(audit, row)
    if time is None:
        return Answer(agrees=None, sentence=f"{name}: not timed.")
    floor = math.exp(noise_floor(_placebo_time(audit)))
    below, above = time.ci95[1] * floor <= asked.limit, time.ci95[0] / floor > asked.limit
    agrees = None
    if time.pairs >= MIN_PAIRS and (below or above):
        agrees = below if asked.kind == "takes-at-most" else above
    return Answer(
        agrees=agrees,
        sentence=f"{name}: {interval(time)} the baseline's time, against {asked.limit:g} ×.",
    )


def control_costs(audit: Audit, asked: Measurement, row: Score, than: Score) -> Answer:
    """The control takes longer than what it is timed against, by more than means nothing."""
    times = (control.time_ratio for control in audit.controls if control.name == asked.control)
    if (time := next(times, None)) is None:
        return Answer(agrees=None, sentence=f"the control {asked.control}, timed.", missing=True)
    floor = math.exp(noise_floor(_placebo_time(audit)))
    agrees = None
    if time.pairs >= MIN_PAIRS and (time.ci95[0] > floor or time.ci95[1] * floor < 1):
        agrees = time.median > 1
    sentence = f"{asked.control}: {interval(time)} the time without it"
    return Answer(agrees=agrees, sentence=f"{sentence}; {percent(floor - 1)} means nothing.")


def lighter(audit: Audit, asked: Measurement, row: Score, than: Score) -> Answer:
    """Every peak of one lies below every peak of the other, farther than ±2 % and than the
    baseline's lie from the placebo's."""
    a, b = row.memory_range, than.memory_range
    if a is None or b is None:
        return Answer(agrees=None, sentence=f"{_both(audit, row, than)}: memory not measured.")
    floor = _memory_floor(audit)
    enough = min(a.runs, b.runs) >= MIN_PAIRS
    agrees = None
    if enough and b.smallest > a.largest * floor:
        agrees = True
    elif enough and a.smallest > b.largest * floor:
        agrees = False
    return Answer(
        agrees=agrees,
        sentence=f"{name_of(audit, row)}: peaks of {_range(a)}; {name_of(audit, than)}: "
        f"{_range(b)}; {percent(floor - 1)} apart means nothing.",
    )


def _memory_floor(audit: Audit) -> float:
    """The ratio of two peaks below which a difference means nothing."""
    floor = 1 + SAME
    baseline = next(iter(rows_with(audit, {})), None)
    placebo = next((score.memory_range for score in audit.scores if score.placebo), None)
    ours = baseline.memory_range if baseline else None
    if ours and placebo:
        highest = max(ours.largest, placebo.largest)
        floor = max(floor, highest / min(ours.smallest, placebo.smallest))
    return floor


def changes(audit: Audit, asked: Measurement, row: Score, than: Score) -> Answer:
    """More or fewer than half of the prompts and seeds, as far as their number allows; for
    `may-change` one is enough, and none must be of so many that `RARE` is excluded."""
    clusters, name = _worst_by_cluster(row), name_of(audit, row)
    changed = sum(rank(worst.verdict) >= rank(asked.at_least) for worst in clusters.values())
    total = len(clusters)
    if asked.kind == "may-change":
        more, fewer = changed > 0, not changed and failure_bound(total, 0) <= RARE
    else:
        more = total > 0 and _at_least(changed, total) > HALF
        fewer = total > 0 and failure_bound(total, changed) < HALF
    nobodys = row.drift is not None and row.drift.not_attributable
    agrees = None
    if fewer or (more and not nobodys):
        agrees = fewer if asked.kind == "keeps" else more
    beside = ", not attributable to it" if nobodys else ""
    return Answer(
        agrees=agrees,
        sentence=f"{name}: {changed} of {counted(total, 'picture')} {asked.at_least} or farther; "
        f"the worst {row.drift.verdict if row.drift else 'not compared'}{beside}.",
    )


def closer(audit: Audit, asked: Measurement, row: Score, than: Score) -> Answer:
    """By the SSIM of each prompt and seed's worst picture, on more or fewer than half of them."""
    a, b = _worst_by_cluster(row), _worst_by_cluster(than)
    both = [cluster for cluster in a if cluster in b]
    nearer = sum(a[cluster].ssim > b[cluster].ssim for cluster in both)
    farther = sum(a[cluster].ssim < b[cluster].ssim for cluster in both)
    agrees = None
    if both and _at_least(nearer, len(both)) > HALF:
        agrees = True
    elif both and _at_least(farther, len(both)) > HALF:
        agrees = False
    return Answer(
        agrees=agrees,
        sentence=f"{name_of(audit, row)} is closer to the baseline than {name_of(audit, than)} in "
        f"{nearer} of {counted(len(both), 'picture')}, farther in {farther} (SSIM).",
    )


def _worst_by_cluster(row: Score) -> dict[tuple[str, int], Comparison]:
    """A configuration that does not repeat has several pictures of one request."""
    found: dict[tuple[str, int], Comparison] = {}
    for picture in row.drift.pictures if row.drift else ():
        place = picture.prompt, picture.seed
        known = found.get(place)
        if known is None or _badness(picture) > _badness(known):
            found[place] = picture
    return found


def _badness(picture: Comparison) -> tuple[int, float]:
    return rank(picture.verdict), -picture.ssim


def _at_least(successes: int, trials: int) -> float:
    """One-sided 95 % lower bound of a rate."""
    return 1 - failure_bound(trials, trials - successes)


def _range(memory: MemoryRange) -> str:
    low, high = memory.smallest / 1e6, memory.largest / 1e6
    return f"{low:,.0f} to {high:,.0f} MB in {counted(memory.runs, 'run')}"


def _both(audit: Audit, row: Score, than: Score) -> str:
    return f"{name_of(audit, row)} and {name_of(audit, than)}"
