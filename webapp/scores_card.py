"""An audit's rows as a table and as a picture: what repeats, what drifts, what it costs."""

from collections.abc import Sequence
from html import escape

from audit.changes import short_name
from audit.plots import NARROW, WIDE, speed_against_drift
from audit.prompt_evidence import CAVEAT, HEADING, any_judged, bounds, exchanged, of_judged
from audit.score import Audit, Score
from audit.units import counted, gigabytes, interval, similarity
from core.optimization import Configuration
from webapp.heat_map import heat_map
from webapp.run_card import EFFECT_WORDS
from webapp.words import chip, drift_chip, placebo_of, repeats_chips, setting, speed_chip

_PROMPT = 3
"""Which column says how many pictures follow their prompt, in audits where somebody judged that."""
_HEADINGS = ("Setting", "Repeats bit for bit", "Drift from the baseline", HEADING, "Time", "Memory")


def names(audit: Audit) -> dict[str, str]:
    """Each row's key → the settings that are not the baseline's."""
    start = next((s.configuration for s in audit.scores if s.key == audit.baseline), None)
    return {
        score.key: short_name(score.configuration, start or Configuration())
        for score in audit.scores
    }


def row_id(audit: Audit, score: Score) -> str:
    """A row's place as text, for the browser to send back."""
    return str(audit.scores.index(score))


def table(audit: Audit, picked: str = "") -> str:
    """One line per configuration; what this platform cannot do stands below with its reason."""
    called = names(audit)
    there = [score for score in audit.scores if score.available]
    rows = "".join(_row(audit, score, called[score.key], picked) for score in there)
    missing = [score for score in audit.scores if not score.available]
    headings = "".join(f'<th scope="col">{heading}</th>' for heading in _shown(audit, _HEADINGS))
    caveat = f'<p class="sp-hint">{CAVEAT}</p>' if any_judged(audit) else ""
    return (
        '<section class="sp-card"><h2 class="sp-title">What each setting costs here</h2>'
        '<p class="sp-hint">Pick a row to see its pictures and its evidence.</p>'
        f'<div class="sp-scroll"><table class="sp-table sp-stack" id="scores"><thead><tr>{headings}'
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
        f"{caveat}{_unavailable(missing, called)}</section>"
    )


def maps(audit: Audit, picked: str = "") -> str:
    """All rows at a glance: settings by axes, and speed against drift."""
    return heat_map(audit, names(audit), picked) + plot(audit)


def plot(audit: Audit) -> str:
    """Speed against drift; empty before anything was both compared and timed."""
    called = names(audit)
    wide = speed_against_drift(audit.scores, audit.baseline, _with_memory(audit, called), WIDE)
    narrow = speed_against_drift(audit.scores, audit.baseline, called, NARROW)
    if not wide:
        return ""
    return (
        '<section class="sp-card" id="plot"><h2 class="sp-title">Speed against drift</h2>'
        '<p class="sp-hint">Further left is faster; further down is farther from the baseline. '
        "Filled marks are worth choosing between; a cross was not shown to repeat. "
        f"In the grey column a difference in time means nothing.</p>{wide}{narrow}</section>"
    )


def _with_memory(audit: Audit, called: dict[str, str]) -> dict[str, str]:
    peaks = {score.key: score.peak_memory_bytes for score in audit.scores if not score.placebo}
    return {
        key: f"{name}, {gigabytes(peak)}" if (peak := peaks.get(key)) else name
        for key, name in called.items()
    }


def _row(audit: Audit, score: Score, name: str, picked: str) -> str:
    which = row_id(audit, score)
    is_baseline = score.key == audit.baseline and not score.placebo
    label = f"{name} again" if score.placebo else name
    beside = ""
    if score.placebo:
        beside = chip("placebo", "quiet", "The baseline under a second name: what differs is noise")
    elif score.effect is not None and score.effect != "applied":
        effect, effect_tone = EFFECT_WORDS[score.effect]
        beside = chip(effect, effect_tone, _reason(score))
    if score.failures:
        beside += f" {chip('runs failed', 'bad', score.failures[0])}"
    cells = (
        f'<button type="button">{setting(label)}</button> {beside}',
        repeats_chips(score),
        chip("the baseline", "mine") if is_baseline else _drift(score),
        _prompts(score),
        "1" if is_baseline else _time(score, audit),
        "" if score.peak_memory_bytes is None else gigabytes(score.peak_memory_bytes),
    )
    tds = "".join(
        f'<td data-label="{heading}"><div>{cell}</div></td>'
        for heading, cell in zip(_shown(audit, _HEADINGS), _shown(audit, cells), strict=True)
    )
    chosen = " sp-chosen" if which == picked else ""
    return (
        f'<tr class="sp-pick{chosen}" data-pick="{which}" data-key="{escape(score.key)}">{tds}</tr>'
    )


def _drift(score: Score) -> str:
    drift = score.drift
    if drift is None or drift.verdict == "bit-exact":
        return drift_chip(drift)
    return (
        f'{drift_chip(drift)}<div class="sp-note sp-figures">SSIM {similarity(drift.ssim_min)}, '
        f"worst tile {similarity(drift.ssim_worst_tile)}</div>"
    )


def _shown(audit: Audit, cells: Sequence[str]) -> list[str]:
    """Without the column about prompts where nothing would stand in it."""
    return [cell for i, cell in enumerate(cells) if i != _PROMPT or any_judged(audit)]


def _prompts(score: Score) -> str:
    if (found := score.prompt_followed) is None:
        return chip("not judged", "quiet", score.prompt_unjudged)
    said = "".join(
        f'<div class="sp-note sp-figures">{text}</div>'
        for text in (bounds(found), exchanged(found))
        if text
    )
    return f'<span class="sp-figures">{of_judged(found)}</span>{said}'


def _time(score: Score, audit: Audit) -> str:
    said = speed_chip(score.time_ratio, placebo_of(audit))
    if score.time_ratio is None:
        return said
    return f'{said}<div class="sp-note sp-figures">{escape(interval(score.time_ratio))}</div>'


def _reason(score: Score) -> str:
    slots = score.effective.slots if score.effective else ()
    return next((slot.reason for slot in slots if slot.effect == score.effect), "")


def _unavailable(missing: list[Score], called: dict[str, str]) -> str:
    """What this machine cannot do, folded away where it is much."""
    if not missing:
        return ""
    lines = "".join(
        f"<li><b>{setting(called[score.key])}</b>: {escape(score.why_not)}</li>"
        for score in missing
    )
    return (
        f'<details class="sp-more"{" open" if len(missing) == 1 else ""}><summary>'
        f"{counted(len(missing), 'setting')} cannot run here</summary>"
        f'<ul class="sp-list sp-hint">{lines}</ul></details>'
    )
