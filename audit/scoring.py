"""From runs to scores: a pure function of the plan, its runs and their picture files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

from audit.applicability import not_applicable
from audit.controls import control_drift, controls
from audit.cross_platform import cross_platform
from audit.determinism import axis_verdicts
from audit.deviations import deviations
from audit.drift import compare, drift
from audit.notes import audit_notes
from audit.pictures import LoadPicture
from audit.plan import ControlRole, Plan, PlannedRun
from audit.prompt_judge import PromptJudge
from audit.prompt_length import prompt_length
from audit.prompt_scoring import PromptReader, prompt_followed
from audit.recommendation import recommend
from audit.score import AXES, GOALS, Audit, Axis, AxisVerdict, Comparison, Drift, Gate, Score
from audit.timing import NOISY, scored, timing
from audit.trials import Processes, Runs, clusters, determinism_calls, done, first_pictures
from audit.units import percent
from audit.verdicts import GATES
from core.optimization import Configuration
from core.platforms import Platform
from core.run import Effect, Effective, Picture

_UNSCORED = ("other-work", "platform", *get_args(ControlRole))
"""Roles that are run on a row's configuration without being about it as it is here."""


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    """What every row is scored with."""

    runs: Runs
    processes: Processes
    load: LoadPicture
    gates: tuple[Gate, ...]
    baseline: Sequence[PlannedRun]
    inapplicable: Mapping[Axis, str]
    reader: PromptReader | None


def score(
    plan: Plan,
    planned: Sequence[PlannedRun],
    runs: Runs,
    platform: Platform,
    *,
    load_picture: LoadPicture,
    audit_id: str,
    started_at: str,
    finished_at: str | None = None,
    seconds: float = 0.0,
    gates: tuple[Gate, ...] = GATES,
    judge: PromptJudge | None = None,
    notes: Sequence[str] = (),
) -> Audit:
    """Judge whatever is there; a plan half done gives verdicts that say so.

    `planned` are all runs the plan expands to, `runs` those made so far by identity. Picture
    files are read through `load_picture` only. The same arguments always give the same audit.
    `judge` says which pictures follow their prompts; without one nobody does. `notes` are what the
    caller knows and a reader must.
    """
    rows: dict[tuple[Configuration, bool], list[PlannedRun]] = {}
    for entry in planned:
        rows.setdefault((entry.configuration, entry.placebo), []).append(entry)
    baseline = rows.get((plan.baseline, False), [])
    load = lru_cache(maxsize=32)(load_picture)
    evidence = _Evidence(
        runs=runs,
        processes=Processes(planned, runs),
        load=load,
        gates=gates,
        baseline=baseline,
        inapplicable=not_applicable(platform),
        reader=PromptReader(judge, load) if judge else None,
    )
    nudge, nudge_problems = control_drift("ulp-nudge", baseline, runs, evidence.load, gates)
    other, other_problems = control_drift("other-seed", baseline, runs, evidence.load, gates)
    lengths, length_problems = prompt_length(baseline, runs)
    scores: list[Score] = []
    for configuration, placebo in (
        (plan.baseline, False),
        (plan.baseline, True),
        *((candidate, False) for candidate in plan.candidates),
    ):
        row = rows.get((configuration, placebo), [])
        if why_not := plan.skipped.get(configuration.key):
            scores.append(_unavailable(configuration, why_not))
        elif row or not placebo:
            scores.append(_row(configuration, placebo, row, evidence, nudge))
    baseline_score = next((row for row in scores if row.key == plan.baseline.key), None)
    placebo_score = next((row for row in scores if row.placebo), None)
    finished = [runs[run.identity] for run in planned if run.identity in runs]
    finished = [run for run in finished if run.outcome != "cancelled"]
    first = plan.requests[0]
    return Audit(
        audit_id=audit_id,
        plan=plan.name,
        started_at=started_at,
        finished_at=finished_at,
        complete=len(finished) == len(planned),
        runs_done=len(finished),
        runs_planned=len(planned),
        seconds=seconds,
        platform=platform,
        model_name=first.model.name,
        model_digest=first.model.digest,
        num_inference_steps=first.num_inference_steps,
        width=first.width,
        height=first.height,
        baseline=plan.baseline.key,
        scores=tuple(scores),
        controls=controls(placebo_score, nudge, other, lengths),
        recommendations={
            goal: recommend(
                scores,
                goal,
                baseline=plan.baseline.key,
                platform_fingerprint=platform.fingerprint,
                audit_id=audit_id,
            )
            for goal in GOALS
        },
        published=plan.published,
        deviations=tuple(deviations(plan, planned, runs, platform)),
        cross_platform=cross_platform(
            plan, planned, runs, platform, load=evidence.load, gates=gates, nudge=nudge
        ),
        notes=(
            *audit_notes(plan, planned, runs, platform, baseline_score, placebo_score),
            *length_problems,
            *nudge_problems,
            *other_problems,
            *notes,
        ),
        gates=gates,
    )


def _unavailable(configuration: Configuration, why_not: str) -> Score:
    return Score(
        configuration=configuration,
        key=configuration.key,
        available=False,
        why_not=why_not,
        prompt_unjudged="not available here",
        determinism={
            axis: AxisVerdict(verdict="unverified", reason="not available here") for axis in AXES
        },
    )


def _row(
    configuration: Configuration,
    placebo: bool,
    row: Sequence[PlannedRun],
    evidence: _Evidence,
    nudge: Drift | None,
) -> Score:
    runs = evidence.runs
    own = [entry for entry in row if entry.role not in _UNSCORED]
    made = [entry for entry in own if done(entry, runs)]
    determinism = axis_verdicts(row, runs, evidence.processes, evidence.load, evidence.inapplicable)
    comparisons, problems = _comparisons(row, evidence)
    followed, unjudged, unopened = prompt_followed(row, evidence.baseline, runs, evidence.reader)
    times = timing(row, evidence.baseline, runs)
    effect, effective, disagreements = _effect([runs[entry.identity].effective for entry in made])
    others = _timed_other_pictures(row, runs)
    notes = [*disagreements, *problems, *unopened]
    notes += [f"{axis}: {v.reason}" for axis, v in determinism.items() if "rejected" in v.reason]
    if others:
        notes.append(f"{others} timed pictures are not the audited ones of the same request")
    if times.spread is not None and times.spread > NOISY:
        notes.append(f"noisy timings: the middle half of its ratios spans {percent(times.spread)}")
    return Score(
        configuration=configuration,
        key=configuration.key,
        placebo=placebo,
        effect=effect,
        effective=effective,
        determinism=determinism,
        drift=drift(comparisons, nudge),
        prompt_followed=followed,
        prompt_unjudged=unjudged,
        time_ratio=times.ratio,
        seconds_median=times.seconds_median,
        timed=times.timed,
        peak_memory_bytes=times.peak_memory_bytes,
        memory_kind=times.memory_kind,
        memory_range=times.memory_range,
        runs=len(made),
        failures=_failures(own, runs),
        timed_other_pictures=others,
        notes=tuple(notes),
    )


def _comparisons(
    row: Sequence[PlannedRun], evidence: _Evidence
) -> tuple[list[Comparison], list[str]]:
    """Every distinct picture of a row's determinism runs against the baseline's a/0.

    A configuration that repeats has one per cluster; of one that does not, the worst governs.
    """
    found: list[Comparison] = []
    problems: list[str] = []
    starts = first_pictures(evidence.baseline, evidence.runs)
    for cluster, entries in clusters(row).items():
        if (start := starts.get(cluster)) is None:
            continue
        distinct: dict[str, Picture] = {}
        for entry in (entry for calls in determinism_calls(entries) for entry in calls):
            if done(entry, evidence.runs):
                picture = evidence.runs[entry.identity].pictures[0]
                distinct.setdefault(picture.pixels_sha256, picture)
        for picture in distinct.values():
            try:
                found.append(compare(start, picture, evidence.load, evidence.gates))
            except (OSError, ValueError) as error:
                problems.append(f"a picture of seed {picture.request.seed} not compared: {error}")
    return found, problems


def _effect(
    records: Sequence[Effective],
) -> tuple[Effect | None, Effective | None, list[str]]:
    """The worst effect of any slot of any run, the record it is from, and disagreements.

    `applied` is best and `fell-back` worst: there the figures belong to neither what was asked nor
    the baseline.
    """
    if not records:
        return None, None, []
    order = get_args(Effect)
    effects = [
        max((slot.effect for slot in record.slots), key=order.index, default=order[0])
        for record in records
    ]
    worst = max(effects, key=order.index)
    seen: dict[str, set[Effect]] = {}
    for record in records:
        for slot in record.slots:
            seen.setdefault(f"{slot.slot}={slot.requested}", set()).add(slot.effect)
    disagreements = [
        f"runs disagree on what {text} did: {' and '.join(sorted(found, key=order.index))}"
        for text, found in sorted(seen.items())
        if len(found) > 1
    ]
    return worst, records[effects.index(worst)], disagreements


def _timed_other_pictures(row: Sequence[PlannedRun], runs: Runs) -> int:
    """How many timed pictures differ from a/0: a fast path must not dodge the audit."""
    starts = first_pictures(row, runs)
    return sum(
        picture.pixels_sha256 != starts[entry.cluster].pixels_sha256
        for entry in scored(row, runs)
        if entry.cluster in starts
        for picture in runs[entry.identity].pictures
        if picture.request == starts[entry.cluster].request
    )


def _failures(own: Sequence[PlannedRun], runs: Runs) -> tuple[str, ...]:
    there = [runs[entry.identity] for entry in own if entry.identity in runs]
    return tuple(dict.fromkeys(run.reason for run in there if run.outcome == "failed"))
