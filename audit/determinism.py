"""Whether a configuration agrees with itself, by axis."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from audit.divergence import equal, witness
from audit.pictures import LoadPicture
from audit.plan import PlannedRun
from audit.score import Axis, AxisVerdict
from audit.statistics import failure_bound
from audit.trials import Pair, Processes, Runs, Trial, trials, why_rejected
from audit.verdicts import MIN_TRIALS, determinism


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """One trial, judged. `pair` is the one that decided, `reason` why it was rejected."""

    status: Literal["passed", "failed", "rejected", "missing"]
    trial: Trial
    pair: Pair | None = None
    reason: str = ""


def axis_verdicts(
    planned: Sequence[PlannedRun],
    runs: Runs,
    processes: Processes,
    load: LoadPicture,
    inapplicable: Mapping[Axis, str],
) -> Mapping[Axis, AxisVerdict]:
    """Every axis of one row. `planned` are the row's runs, done or not; `inapplicable` are the
    axes that the platform cannot vary, with the reason."""
    return {
        axis: AxisVerdict(verdict="not-applicable", reason=inapplicable[axis])
        if axis in inapplicable and not attempts
        else _verdict(axis, [_judge(trial, runs, processes) for trial in attempts], runs, load)
        for axis, attempts in trials(planned).items()
    }


def _judge(trial: Trial, runs: Runs, processes: Processes) -> _Outcome:
    """A trial fails by any differing pair; it passes only when all its pairs are there."""
    missing, rejected = False, ""
    for pair in trial.pairs:
        pictures = pair.pictures(runs)
        if pictures is None:
            missing = True
        elif reason := why_rejected(trial.axis, pair, runs, processes):
            rejected = rejected or reason
        elif pictures[0].request != pictures[1].request:
            rejected = rejected or "its pictures are of different requests"
        elif not equal(*pictures):
            return _Outcome(status="failed", trial=trial, pair=pair)
    if rejected:
        return _Outcome(status="rejected", trial=trial, reason=rejected)
    return _Outcome(status="missing" if missing else "passed", trial=trial)


def _verdict(
    axis: Axis, outcomes: Sequence[_Outcome], runs: Runs, load: LoadPicture
) -> AxisVerdict:
    if not outcomes:
        return AxisVerdict(
            verdict="unverified", reason="the plan does not try it on this configuration"
        )
    valid = [outcome for outcome in outcomes if outcome.status in ("passed", "failed")]
    failed = [outcome for outcome in valid if outcome.pair is not None]
    verdict = determinism(len(valid), len(failed))
    reasons: list[str] = []
    if verdict == "unverified":
        reasons.append(f"{len(valid)} of the {MIN_TRIALS} trials it takes")
    if missing := sum(outcome.status == "missing" for outcome in outcomes):
        reasons.append(f"{missing} of {len(outcomes)} planned trials not done")
    rejections = Counter(outcome.reason for outcome in outcomes if outcome.reason)
    reasons.extend(f"{count} rejected: {why}" for why, count in sorted(rejections.items()))
    if verdict == "held":
        reasons.extend(_limits(axis, valid, runs))
    return AxisVerdict(
        verdict=verdict,
        trials=len(valid),
        failures=len(failed),
        p_upper95=failure_bound(len(valid), len(failed)) if valid else None,
        witness=witness(axis, failed[0].pair, runs, load) if failed and failed[0].pair else None,
        reason="; ".join(reasons),
    )


def _limits(axis: Axis, outcomes: Sequence[_Outcome], runs: Runs) -> list[str]:
    """What must be said beside `held`: that nothing was varied, or less than one may think."""
    environments = [
        (runs[pair.first.identity].environment, runs[pair.second.identity].environment)
        for outcome in outcomes
        for pair in outcome.trial.pairs
    ]
    pins = {slot for outcome in outcomes for slot in _pins(axis, outcome.trial.pairs, runs)}
    if pins:
        return [f"pinned by {', '.join(sorted(pins))}"]
    if axis == "threads" and all(a.threads == b.threads for a, b in environments):
        return [f"pinned: all runs used {environments[0][0].threads} thread(s)"]
    if axis == "instruction-set":
        counts = Counter(limited.instruction_set for _, limited in environments)
        usual = environments[0][0].instruction_set
        listed = ", ".join(f"{name} in {count}" for name, count in sorted(counts.items()))
        return [f"against {usual} kernels: {listed}"]
    if axis == "fresh-process" and not any(
        "exec" in (a.process, b.process) for a, b in environments
    ):
        return ["all processes were forked from one parent; none was exec'd"]
    return []


def _pins(axis: Axis, pairs: Sequence[Pair], runs: Runs) -> set[str]:
    """Settings of an axis's own name that acted: what the axis varies, they keep as it is."""
    found = set()
    for pair in pairs:
        for entry in (pair.first, pair.second):
            slot = runs[entry.identity].effective.slot(axis)
            if slot is not None and slot.effect == "applied":
                found.add(f"{slot.slot}={slot.requested}")
    return found
