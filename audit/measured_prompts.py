"""Whether the pictures of a row follow their prompts as the baseline's do."""

from audit.measured_figures import RARE
from audit.measurement import Answer, Measurement
from audit.score import Audit, Score
from audit.selection import name_of
from audit.statistics import failure_bound
from audit.units import counted

BY_CHANCE = 0.05
"""A loss that chance makes more often than this decides nothing."""


def follows(audit: Audit, asked: Measurement, row: Score, than: Score) -> Answer:
    """Agrees where losing more than `RARE` of the baseline's pictures that follow their prompt is
    excluded: a baseline that follows in few has little to lose. Refuted where more are lost than
    won, and chance alone seldom does that (`audit.statistics.mcnemar`)."""
    name, found = name_of(audit, row), row.prompt_followed
    beside = found.beside_baseline if found else None
    if beside is None:
        why = row.prompt_unjudged or "the baseline has no such pictures"
        return Answer(agrees=None, sentence=f"{name}: prompts not judged, {why}.")
    agrees = None
    if failure_bound(beside.baseline_followed, beside.lost) <= RARE:
        agrees = True
    elif beside.lost > beside.won and beside.mcnemar_p <= BY_CHANCE:
        agrees = False
    return Answer(
        agrees=agrees,
        sentence=f"{name}: the baseline follows its prompt in {beside.baseline_followed} of "
        f"{counted(beside.pairs, 'picture')}; {beside.lost} lost that and {beside.won} won it "
        f"(McNemar's exact p is {beside.mcnemar_p:.2g}).",
    )
