"""What a reader must know before reading an audit's numbers."""

import math
from collections.abc import Iterator, Sequence

from audit.plan import Plan, PlannedRun
from audit.score import Score
from audit.statistics import failure_bound, noise_floor
from audit.trials import Runs
from audit.units import percent
from core.platforms import Platform


def audit_notes(
    plan: Plan,
    planned: Sequence[PlannedRun],
    runs: Runs,
    platform: Platform,
    baseline: Score | None,
    placebo: Score | None,
) -> Iterator[str]:
    """Limits of the whole audit, a sentence each; a row's own stand in `Score.notes`."""
    clusters = len(plan.requests)
    yield (
        f"{clusters} prompts and seeds per configuration: even where none fails, failing "
        f"{percent(failure_bound(clusters, 0))} of the time cannot be excluded (95 %)."
    )
    if plan.timing_batches:
        sizes = " and ".join(str(len(batch)) for batch in plan.timing_batches)
        yield (
            f"Time and memory are of other pictures than those judged: each block makes batches of "
            f"{sizes} with the prompt that is timed, and nobody compares their pixels."
        )
    there = [runs[entry.identity] for entry in planned if entry.identity in runs]
    if missing := len(planned) - len(there):
        yield f"{missing} of {len(planned)} planned runs are not done yet."
    if failed := sum(run.outcome == "failed" for run in there):
        yield f"{failed} of {len(there)} runs failed; their rows say why."
    if caveats := {run.environment.timing_caveat for run in there} - {""}:
        yield f"Times of some runs are not counted: {' '.join(sorted(caveats))}"
    if elsewhere := sum(run.environment.fingerprint != platform.fingerprint for run in there):
        yield f"{elsewhere} of {len(there)} runs were made on another platform than the one named."
    if len({(r.width, r.height, r.num_inference_steps, r.sampler) for r in plan.requests}) > 1:
        yield "The requests differ in size, steps or sampler; the header names the first one's."
    if any(row and row.drift and row.drift.verdict != "bit-exact" for row in (baseline, placebo)):
        yield (
            "The baseline does not agree with itself, so every comparison with it is in doubt: see "
            "its witness, and whether model or code changed between sittings."
        )
    if placebo and placebo.time_ratio:
        floor = math.expm1(noise_floor(placebo.time_ratio))
        yield (
            f"Differences in time up to {percent(floor)} mean nothing "
            "here: that is ±2 %, or what the placebo strays."
        )
