"""Answers to a measurement, one for each pair of rows it names."""

from collections.abc import Callable, Iterator, Mapping

from audit.measured_counts import count, merges_its_ratio, merges_the_prompt
from audit.measured_figures import (
    changes,
    closer,
    control_costs,
    faster,
    lighter,
    repeating,
    takes,
)
from audit.measured_prompts import follows
from audit.measurement import Answer, Kind, Measurement
from audit.score import Audit, Score
from audit.selection import baseline_of, name_of, rows_with

COMPARING = ("faster", "alike", "lighter", "closer", "merges-the-prompt")
"""Kinds that look at two rows."""
KINDS: Mapping[Kind, Callable[[Audit, Measurement, Score, Score], Answer]] = {
    "repeats": repeating,
    "may-differ": repeating,
    "differs": repeating,
    "faster": faster,
    "alike": faster,
    "takes-at-most": takes,
    "takes-at-least": takes,
    "control-costs": control_costs,
    "lighter": lighter,
    "changes": changes,
    "may-change": changes,
    "keeps": changes,
    "closer": closer,
    "follows": follows,
    "counted": count,
    "uncounted": count,
    "merges-its-ratio": merges_its_ratio,
    "merges-the-prompt": merges_the_prompt,
}


def answers(audit: Audit, asked: Measurement) -> Iterator[Answer]:
    """One for each pair of rows; what is not here says so."""
    rows, others = rows_with(audit, asked.row), rows_with(audit, asked.than)
    for settings, found in ((asked.row, rows), (asked.than, others)):
        if not found:
            wanted = " ".join(f"{slot}={value}" for slot, value in settings.items())
            sentence = f"a row with {wanted or 'the baseline'}."
            yield Answer(agrees=None, sentence=sentence, missing=True)
            return
    for row in rows:
        for than in others:
            if row is not than or asked.kind not in COMPARING:
                yield _answer(audit, asked, row, than)


def _answer(audit: Audit, asked: Measurement, row: Score, than: Score) -> Answer:
    for one in (row, than) if asked.kind in COMPARING else (row,):
        name = name_of(audit, one)
        if not one.available:
            return Answer(agrees=None, sentence=f"{name}: {one.why_not.rstrip('.')}.", missing=True)
        if one.effect != "applied" and one.configuration != baseline_of(audit):
            did = f"its effect was {one.effect}" if one.effect else "no run of it succeeded"
            return Answer(agrees=None, sentence=f"{name}: {did}.")
    return KINDS[asked.kind](audit, asked, row, than)
