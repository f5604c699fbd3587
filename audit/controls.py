"""The noise floors: what drift and speed look like where nothing, or everything, changed."""

from collections.abc import Sequence

from audit.drift import compare, drift
from audit.pictures import LoadPicture
from audit.plan import ControlRole, PlannedRun
from audit.score import Comparison, Control, Drift, Gate, Score
from audit.trials import Runs, done, first_pictures
from audit.verdicts import GATES

WHAT: dict[str, str] = {
    "placebo": "the baseline under a second name, in processes of its own: "
    "any difference in this row is noise",
    "ulp-nudge": "the baseline with one element of its initial latents moved by one unit in the "
    "last place: drift no larger than this cannot be blamed on a setting",
    "other-seed": "the baseline with another seed: what a truly different picture of the same "
    "prompt scores",
}
"""Each control in one sentence."""


def control_drift(
    role: ControlRole,
    baseline: Sequence[PlannedRun],
    runs: Runs,
    load: LoadPicture,
    gates: tuple[Gate, ...] = GATES,
) -> tuple[Drift | None, list[str]]:
    """One control's pictures against the baseline's a/0 of the same cluster, and what went wrong.

    `baseline` are the runs of the baseline's own row, the controls among them.
    """
    comparisons: list[Comparison] = []
    problems: list[str] = []
    starts = first_pictures(baseline, runs)
    for control in sorted(baseline, key=lambda run: run.cluster):
        start = starts.get(control.cluster)
        if control.role != role or start is None or not done(control, runs):
            continue
        picture = runs[control.identity].pictures[0]
        try:
            comparisons.append(compare(start, picture, load, gates))
        except (OSError, ValueError) as error:
            problems.append(f"{role} of seed {picture.request.seed} not compared: {error}")
    return drift(comparisons), problems


def controls(
    placebo: Score | None, nudge: Drift | None, other: Drift | None, more: Sequence[Control] = ()
) -> tuple[Control, ...]:
    """All three, those without data included, so that a reader sees what is missing; then more."""
    return (
        Control(
            name="placebo",
            what=WHAT["placebo"],
            drift=placebo.drift if placebo else None,
            time_ratio=placebo.time_ratio if placebo else None,
        ),
        Control(name="ulp-nudge", what=WHAT["ulp-nudge"], drift=nudge),
        Control(name="other-seed", what=WHAT["other-seed"], drift=other),
        *more,
    )
