"""What a long prompt costs: a picture with more tokens than a chunk has, against a short prompt."""

from collections.abc import Sequence

from audit.measured_counts import prompt_keys
from audit.plan import PlannedRun, Role
from audit.score import Control
from audit.statistics import time_ratio
from audit.timing import scored, seconds
from audit.trials import Runs

NAME: Role = "prompt-length"
WHAT = (
    "the baseline with a prompt of more tokens than one chunk has, against a short one, in one "
    "process in turn: what a long prompt costs"
)


def prompt_length(
    baseline: Sequence[PlannedRun], runs: Runs
) -> tuple[tuple[Control, ...], list[str]]:
    """The control, long ÷ short, paired by session, block and batch; none where nobody ran it.

    A longer prompt that was cut, so that cross-attention has no more keys, shows nothing: then
    there is no control, and a sentence that says so. `baseline` are the runs of its own row.
    """
    pairs: dict[tuple[str, int | None, int], dict[int, PlannedRun]] = {}
    for run in scored(baseline, runs, NAME):
        pairs.setdefault((run.group, run.block, run.repeat // 2), {})[run.repeat % 2] = run
    sessions: dict[str, list[tuple[float, float]]] = {}
    for (group, _, _), pair in pairs.items():
        if len(pair) == 2:
            short, long = (prompt_keys(runs[pair[n].identity].effective) for n in (0, 1))
            if sum(long) <= sum(short):
                keys = " and ".join(map(str, long)) or "none recorded"
                return (), [
                    f"{NAME}: the longer prompt gave the UNet no more keys than the shorter one "
                    f"({keys}), so that there is nothing to compare."
                ]
            sessions.setdefault(group, []).append((seconds(pair[1], runs), seconds(pair[0], runs)))
    ratio = time_ratio(list(sessions.values()))
    if ratio is None:
        return (), []
    return (Control(name=NAME, what=WHAT, drift=None, time_ratio=ratio),), []
