"""Configurations by axes of repeatability: a real table, words in its cells, tinted by verdict."""

from collections.abc import Mapping
from html import escape

from audit.score import AXES, Audit, Axis, Score
from audit.units import percent, trials
from webapp.words import AXIS_NAMES, DETERMINISM_TONES, axis_sentence, setting

QUESTIONS: Mapping[Axis, str] = {
    "same-process": "made again at once",
    "after-other-work": "made after other pictures",
    "fresh-process": "made after a restart",
    "batch-size": "alone, or with others in a batch",
    "batch-position": "first or last in its batch",
    "threads": "with another number of threads",
    "instruction-set": "with older CPU instructions",
}
"""When a picture is asked to come out the same, for people who do not know our words."""


def heat_map(audit: Audit, called: Mapping[str, str], picked: str = "") -> str:
    """One row per configuration, one column per axis that any of them was tried on."""
    rows = [(place, row) for place, row in enumerate(audit.scores) if row.available]
    tried = [axis for axis in AXES if any(_trials(row, axis) for _, row in rows)]
    if not tried:
        return ""
    headings = "".join(
        f'<th scope="col">{AXIS_NAMES[axis]}<span class="sp-question">{QUESTIONS[axis]}</span></th>'
        for axis in tried
    )
    body = "".join(
        f'<tr class="sp-pick{" sp-chosen" if str(place) == picked else ""}" data-pick="{place}">'
        f'<th scope="row"><button type="button">{setting(called[row.key])}'
        f"{' again' if row.placebo else ''}</button></th>"
        f"{''.join(_cell(row, axis) for axis in tried)}</tr>"
        for place, row in rows
    )
    untried = ", ".join(AXIS_NAMES[axis] for axis in AXES if axis not in tried)
    missing = f'<p class="sp-hint">This plan does not try: {untried}.</p>' if untried else ""
    return (
        '<section class="sp-card" id="heat"><h2 class="sp-title">What repeats, bit for bit</h2>'
        '<p class="sp-hint">Is it the same picture when it is made again under other conditions? '
        "<b>held</b> and <b>broken</b> say in how many independent trials the bits were equal; "
        "p is how often it may still fail (95 %). An empty cell was not tried.</p>"
        '<div class="sp-scroll" tabindex="0" role="region" aria-label="Settings by axes">'
        f'<table class="sp-heat"><thead><tr><th scope="col">Setting</th>{headings}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{missing}</section>"
    )


def _trials(row: Score, axis: Axis) -> int:
    return row.determinism[axis].trials if axis in row.determinism else 0


def _cell(row: Score, axis: Axis) -> str:
    verdict = row.determinism.get(axis)
    if verdict is None:
        return '<td><span class="sp-unseen">not tried</span></td>'
    if not verdict.trials:
        words = "n/a" if verdict.verdict == "not-applicable" else ""
        hint = escape(axis_sentence(axis, verdict))
        return f'<td title="{hint}">{words}<span class="sp-unseen">{hint}</span></td>'
    limit = ""
    if verdict.p_upper95 is not None and verdict.verdict == "held":
        limit = f"<br>p ≤ {percent(verdict.p_upper95)}"
    return (
        f'<td class="sp-{DETERMINISM_TONES[verdict.verdict]}" '
        f'title="{escape(axis_sentence(axis, verdict))}"><b>{verdict.verdict}</b> '
        f"{trials(verdict)}{limit}</td>"
    )
