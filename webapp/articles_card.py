"""An audit beside an article's figures, and what articles claim, judged by it."""

from html import escape

from audit.claims import CLAIM_MEANINGS, ClaimVerdict, JudgedClaim, shown_claims
from audit.evidence import agreements
from audit.prompt_evidence import HEADING, any_judged, exchanged, of_judged
from audit.score import Audit, Score
from audit.side_by_side import SideRow, SideTable, side_by_side
from audit.units import counted, gigabytes, interval, ratio
from webapp.words import Tone, chip, drift_chip

HEADINGS = ("Option", "Theirs, one run", "Ours", "Agrees with itself", "Drift")
WITH_PROMPTS = (*HEADINGS, HEADING)
CLAIM_TONES: dict[ClaimVerdict, Tone] = {
    "confirmed": "good",
    "refuted": "bad",
    "not testable here": "quiet",
}


def articles(audit: Audit) -> str:
    """Both parts, each only where it has something to say."""
    return _beside(audit) + _claims(shown_claims(audit))


def _beside(audit: Audit) -> str:
    if audit.published is None:
        return ""
    tables = "".join(_table(audit, side) for side in side_by_side(audit))
    limits = _folded("What their figures do not say", audit.published.limits)
    return (
        '<section class="sp-card" id="beside"><h2 class="sp-title">Beside an article’s figures'
        f'</h2><p class="sp-hint">{escape(audit.published.source)}, measured on '
        f"{escape(audit.published.machine)}. Ours are ratios to the baseline.</p>{tables}"
        f"{_folded('Not as in the article', audit.deviations)}{limits}</section>"
    )


def _table(audit: Audit, side: SideTable) -> str:
    columns = WITH_PROMPTS if any_judged(audit) else HEADINGS
    headings = "".join(f'<th scope="col">{heading}</th>' for heading in columns)
    rows = "".join(_row(audit, row) for row in side.rows)
    return (
        f'<h3 class="sp-title">{escape(side.title)}</h3><div class="sp-scroll">'
        f'<table class="sp-table sp-stack"><thead><tr>{headings}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(audit: Audit, row: SideRow) -> str:
    theirs = (
        f"{ratio(row.their_ratio)}"
        f'<div class="sp-note sp-figures">{row.theirs.seconds:g} s, {row.theirs.peak_gb:g} GB</div>'
    )
    cells = [escape(row.theirs.label), theirs, *_ours(audit, row.ours)]
    if any_judged(audit):
        cells.append(_prompts(row.ours))
    tds = "".join(
        f'<td data-label="{heading}"><div>{cell}</div></td>'
        # The last heading is there only where the audit's pictures were judged.
        for heading, cell in zip(WITH_PROMPTS, cells, strict=False)
    )
    return f"<tr>{tds}</tr>"


def _ours(audit: Audit, score: Score | None) -> tuple[str, str, str]:
    if score is None:
        return chip("no such row"), "", ""
    if not score.available:
        return chip("not available here", "quiet", score.why_not), "", ""
    time = "the unit" if score.key == audit.baseline else "not timed"
    if score.time_ratio is not None and score.key != audit.baseline:
        time = escape(interval(score.time_ratio))
    peak = gigabytes(score.peak_memory_bytes) if score.peak_memory_bytes else "memory not measured"
    beside = ""
    if score.effect != "applied":
        beside = " " + chip(score.effect or "no run", "care")
    agrees = "<br>".join(escape(sentence) for sentence in agreements(score)) or "not tried"
    return (
        f'<span class="sp-figures">{time}</span>{beside}'
        f'<div class="sp-note sp-figures">{peak}</div>',
        f'<span class="sp-note">{agrees}</span>',
        drift_chip(score.drift),
    )


def _prompts(score: Score | None) -> str:
    if score is None or not score.available:
        return ""
    found = score.prompt_followed
    if found is None:
        return chip("not judged", "quiet", score.prompt_unjudged)
    changed = f'<div class="sp-note">{text}</div>' if (text := exchanged(found)) else ""
    return f'<span class="sp-figures">{of_judged(found)}</span>{changed}'


def _claims(judged: tuple[JudgedClaim, ...]) -> str:
    """Decided ones first, in the file's order; the others folded away."""
    if not judged:
        return ""
    settled = [claim for claim in judged if claim.verdict != "not testable here"]
    rest = [claim for claim in judged if claim.verdict == "not testable here"]
    meanings = "; ".join(f"{word}: {meaning}" for word, meaning in CLAIM_MEANINGS.items())
    folded = ""
    if rest:
        folded = (
            f'<details class="sp-more"{"" if settled else " open"}><summary>'
            f"{counted(len(rest), 'statement')} not testable here</summary>"
            f'<ul class="sp-list">{"".join(map(_claim, rest))}</ul></details>'
        )
    return (
        '<section class="sp-card" id="claims"><h2 class="sp-title">What the articles say</h2>'
        '<p class="sp-hint">Judged on this machine with this model; elsewhere it may be otherwise. '
        f"{escape(meanings)}.</p>"
        f'<ul class="sp-list">{"".join(map(_claim, settled))}</ul>{folded}</section>'
    )


def _claim(claim: JudgedClaim) -> str:
    return (
        f'<li data-claim="{escape(claim.id)}">{chip(claim.verdict, CLAIM_TONES[claim.verdict])} '
        f"{escape(claim.says)} "
        f'<span class="sp-note">{escape(claim.article)}: {escape(claim.place)}</span>'
        f'<div class="sp-note">{escape(claim.reason)}</div>'
        f"{_folded(counted(len(claim.figures), 'figure'), claim.figures)}</li>"
    )


def _folded(title: str, sentences: tuple[str, ...]) -> str:
    if not sentences:
        return ""
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return (
        f'<details class="sp-more"><summary>{escape(title)}</summary>'
        f'<ul class="sp-list sp-hint">{lines}</ul></details>'
    )
