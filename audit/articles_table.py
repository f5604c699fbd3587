"""An audit in a terminal beside the figures of an article, and what articles claim."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from audit.claims import JudgedClaim, judge_claims
from audit.evidence import agreements
from audit.prompt_evidence import CAVEAT, any_judged, exchanged, of_judged
from audit.score import Audit, Score
from audit.side_by_side import SideRow, SideTable, side_by_side
from audit.units import counted, drift_words, gigabytes

FIGURES = 2
"""Figures shown beside a claim; the report and the JSON have all."""


def articles(audit: Audit) -> Iterator[Table]:
    """The published tables, what is different here, and the claims; nothing where a plan names no
    figures."""
    if audit.published is None:
        return
    for table in side_by_side(audit):
        yield _beside(audit, table)
    yield _lines("Not as in the article", audit.deviations)
    yield _lines(f"Their figures: {audit.published.source}", audit.published.limits)
    yield _claims(judge_claims(audit))


def bare_table(title: str, *columns: str) -> Table:
    """Without lines; every table of an audit in a terminal looks so."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _beside(audit: Audit, table: SideTable) -> Table:
    machine = audit.published.machine if audit.published else ""
    made = bare_table(
        f"{table.title}: theirs on {machine}, one run; ours with 95 % intervals",
        *("option", "theirs", "ours", "peak", "agrees with itself", "drift", "effect"),
        *(("prompt",) if any_judged(audit) else ()),
    )
    for row in table.rows:
        prompt = (_prompt(row.ours),) if any_judged(audit) else ()
        made.add_row(*map(Text, (*_theirs(row), *_ours(row.ours), *prompt)))
    if any_judged(audit):
        made.caption = Text(CAVEAT)
    return made


def _theirs(row: SideRow) -> tuple[str, str]:
    theirs = row.theirs
    return (
        theirs.label,
        f"{row.their_ratio:.2f}\n{theirs.seconds:g} s\n{theirs.peak_gb:g} GB",
    )


def _ours(score: Score | None) -> tuple[str, ...]:
    """Our cells; what is not here says why in the widest of them."""
    if score is None:
        return "", "", "no such row", "", ""
    if not score.available:
        return "", "", f"not available: {score.why_not}", "", ""
    time = score.time_ratio
    ratio = "not timed"
    if time is not None:
        low, high = time.ci95
        ratio = f"{time.median:.2f}\n({low:.2f}–{high:.2f})\nn={time.pairs}"
    drift = drift_words(score.drift) if score.drift else "not compared"
    return (
        ratio,
        gigabytes(score.peak_memory_bytes) if score.peak_memory_bytes else "",
        "\n".join(agreements(score)) or "not tried",
        drift.replace(" (", "\n(").replace("perceptually-", "perceptually-\n"),
        score.effect or "no run",
    )


def _prompt(score: Score | None) -> str:
    """Short, because the table is as wide as a terminal; the interval is in the table of rows."""
    if score is None or not score.available:
        return ""
    found = score.prompt_followed
    if found is None:
        return "not judged"
    return "\n".join((of_judged(found), *exchanged(found).split(", ")))


def _lines(title: str, sentences: tuple[str, ...]) -> Table:
    made = bare_table(title)
    made.add_column("", overflow="fold")
    made.show_header = False
    for sentence in sentences:
        made.add_row(Text(sentence))
    return made


def _claims(judged: tuple[JudgedClaim, ...]) -> Table:
    made = bare_table(
        "What the articles say, judged on this machine with this model",
        *("verdict", "statement", "because"),
    )
    for claim in sorted(judged, key=lambda claim: claim.verdict == "not testable here"):
        shown = [claim.reason, *claim.figures[:FIGURES]]
        if (more := len(claim.figures) - FIGURES) > 0:
            shown.append(f"and {counted(more, 'more figure')}")
        made.add_row(Text(claim.verdict), Text(claim.says), Text("\n".join(shown)))
    return made
