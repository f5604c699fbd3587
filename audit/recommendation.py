"""Which configuration to use here, for a goal, and why the others lost."""

from collections.abc import Mapping, Sequence

from audit.changes import changes
from audit.evidence import evidence
from audit.score import Axis, DriftVerdict, Goal, Loser, Recommendation, Score, TimeRatio
from audit.statistics import MIN_PAIRS, tied
from audit.units import counted, gigabytes, interval, ratio
from audit.verdicts import rank
from core.platforms import Platform

FARTHEST: Mapping[Goal, DriftVerdict] = {
    "exact": "bit-exact",
    "same-look": "fine-detail",
    "fastest": "visibly-changed",
}
"""How far from the baseline a goal lets a picture be."""
MEANINGS: Mapping[Goal, str] = {
    "exact": "the same picture, bit for bit",
    "same-look": "the same picture to the eye; fine detail may move",
    "fastest": "the same composition; visible changes are fine",
}
"""What each goal promises, to a person."""
REQUIRED: tuple[Axis, ...] = ("same-process", "fresh-process")
"""Axes on which anything recommended must have held."""

_UNIT = TimeRatio(median=1.0, ci95=(1.0, 1.0), pairs=MIN_PAIRS)
"""The baseline's own ratio, by definition, where it was not timed."""


def recommend(
    scores: Sequence[Score],
    goal: Goal,
    *,
    baseline: str,
    max_memory_bytes: int | None = None,
    farthest: DriftVerdict | None = None,
    must_hold: Sequence[Axis] = (),
    platform_fingerprint: str = "",
    audit_id: str = "",
) -> Recommendation:
    """The fastest row that qualifies; among those tied with it in time, the fewest changes.

    `farthest` says how far a picture may be from the baseline's in place of the goal; `must_hold`
    are axes that have to have held besides `REQUIRED`.

    `baseline` is the baseline's key. Its row is always a candidate, so there is an answer wherever
    the baseline itself repeats. The placebo is none: it only says what a difference in time means.
    """
    rows = [row for row in scores if not row.placebo]
    placebo = next((row.time_ratio for row in scores if row.placebo), None)
    start = next((row for row in rows if row.key == baseline), None)
    limit = farthest or FARTHEST[goal]
    axes = tuple(dict.fromkeys((*REQUIRED, *must_hold)))
    refused = {
        row.key: why
        for row in rows
        if (why := _why_not(row, row is start, max_memory_bytes, limit, axes)) is not None
    }
    eligible = [row for row in rows if row.key not in refused]
    winner, ties, reasons = None, list[Score](), dict[str, str]()
    if start is None:
        reason = "Nothing to recommend against: the baseline was not audited."
    elif not eligible:
        reason = f"Nothing qualifies. The baseline itself: {refused[start.key]}"
    else:
        leader = min(eligible, key=lambda row: (_ratio(row).median, row.key))
        unit, best = _ratio(start), _ratio(leader)
        group = [row for row in eligible if row is leader or tied(_ratio(row), best, placebo)]
        if start not in group:
            # Being tied is not handed on: what cannot be told from the baseline either would give
            # its changes for nothing.
            group = [row for row in group if row is leader or not tied(_ratio(row), unit, placebo)]
        winner = min(group, key=lambda row: _closeness(row, start))
        ties = [row for row in group if row is not winner]
        reason = _why(winner, winner is start, len(ties), len(eligible))
        level = {row.key for row in eligible if tied(_ratio(row), best, placebo)}
        reasons = {
            row.key: _why_slower(row, row in ties, winner, row.key in level) for row in eligible
        }
    return Recommendation(
        goal=goal,
        configuration=winner.configuration if winner else None,
        key=winner.key if winner else None,
        reason=reason,
        evidence=tuple(evidence(winner)) if winner else (),
        ties=tuple(row.key for row in ties),
        losers=tuple(
            Loser(key=row.key, reason=(refused | reasons)[row.key])
            for row in rows
            if row is not winner and row.key in refused | reasons
        ),
        platform_fingerprint=platform_fingerprint,
        audit_id=audit_id,
    )


def stale(recommendation: Recommendation, platform: Platform) -> str | None:
    """Why a recommendation no longer speaks about this platform, or None where it still does."""
    if recommendation.platform_fingerprint == platform.fingerprint:
        return None
    measured = recommendation.platform_fingerprint or "unknown"
    return (
        f"Stale: measured on platform {measured}, and this is {platform.fingerprint}; the device, "
        "its threads or a library has changed. Audit again."
    )


def _why_not(
    row: Score,
    is_baseline: bool,
    max_memory: int | None,
    limit: DriftVerdict,
    axes: Sequence[Axis],
) -> str | None:
    """The first requirement a row does not meet, in one sentence; None where it qualifies."""
    if not row.available:
        return f"Not available here: {row.why_not.rstrip('.')}."
    if not is_baseline and row.effect != "applied":
        return _without_effect(row)
    for axis in axes:
        if sentence := _not_held(row, axis):
            return sentence
    if row.drift is None:
        return "Its pictures were not compared with the baseline's."
    if rank(row.drift.verdict) > rank(limit):
        return f"Too far from the baseline: its worst picture is {row.drift.verdict}, not {limit}."
    if row.timed_other_pictures:
        return (
            f"{counted(row.timed_other_pictures, 'timed picture')} differed from the audited ones, "
            "so its speed is not that of what was judged."
        )
    if max_memory is not None and row.peak_memory_bytes is None:
        return "Its memory was not measured, and a limit was asked for."
    if max_memory is not None and (row.peak_memory_bytes or 0) > max_memory:
        return (
            f"Needs {gigabytes(row.peak_memory_bytes or 0)}, more than the "
            f"{gigabytes(max_memory)} allowed."
        )
    if not is_baseline and row.time_ratio is None:
        return "Its speed was not measured."
    return None


def _without_effect(row: Score) -> str:
    if row.effect is None:
        why = row.failures[0].rstrip(".") if row.failures else "none was made"
        return f"No run of it succeeded: {why}."
    did = "had no effect" if row.effect == "none" else "fell back to something else"
    for slot in row.effective.slots if row.effective else ():
        if slot.effect == row.effect:
            return f"{slot.slot}={slot.requested} {did}: {slot.reason.rstrip('.')}."
    return f"It {did}."


def _not_held(row: Score, axis: Axis) -> str | None:
    verdict = row.determinism.get(axis)
    if verdict is None:
        return f"Not shown to repeat: {axis} is unverified."
    if verdict.verdict == "broken":
        trials = counted(verdict.trials, "trial")
        return f"Does not repeat: {axis} is broken, {verdict.failures} of {trials} differed."
    if verdict.verdict != "held" and row.failures:
        return f"Not shown to repeat, as its runs failed: {row.failures[0]}"
    if verdict.verdict != "held":
        detail = f" ({verdict.reason})" if verdict.reason else ""
        return f"Not shown to repeat: {axis} is {verdict.verdict}{detail}."
    return None


def _ratio(row: Score) -> TimeRatio:
    return row.time_ratio or _UNIT


def _closeness(row: Score, start: Score) -> tuple[int, int, float, str]:
    """How close to the baseline, for ties: fewest changes, then least drift, then speed."""
    drift = rank(row.drift.verdict) if row.drift else 0
    count = len(changes(row.configuration, start.configuration))
    return count, drift, _ratio(row).median, row.key


def _why(winner: Score, is_baseline: bool, ties: int, eligible: int) -> str:
    if is_baseline and eligible == 1:
        return "Keep the baseline: nothing else qualifies."
    if is_baseline:
        others = counted(eligible - 1, "other configuration")
        return f"Keep the baseline: {others} would do, none measurably faster."
    speed = f"{ratio(_ratio(winner).median)} the baseline's time per picture"
    if ties:
        tied_with = counted(ties, "other")
        return f"Tied for fastest with {tied_with}, and the closest to the baseline: {speed}."
    return f"The fastest of {eligible} that qualify: {speed}."


def _why_slower(row: Score, in_tie: bool, winner: Score, level_with_fastest: bool = False) -> str:
    if in_tie:
        return (
            f"Tied in time, {interval(_ratio(row))}, and farther from the baseline than the winner."
        )
    if level_with_fastest:
        return f"Not measurably faster than the baseline: {interval(_ratio(row))}."
    return f"Slower: {interval(_ratio(row))}, the winner {ratio(_ratio(winner).median)}."
