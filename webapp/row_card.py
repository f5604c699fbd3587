"""One row of an audit up close: its evidence, its pictures beside the baseline's, its witnesses."""

from html import escape
from pathlib import Path

from audit.drift import worst_first
from audit.evidence import evidence
from audit.pictures import GAIN, data_uri, difference_map, load_picture
from audit.score import Audit, Comparison, Score, Witness
from audit.units import similarity
from webapp.run_card import url
from webapp.scores_card import names
from webapp.words import AXIS_NAMES, DRIFT_TONES, chip

SHOWN = 3
"""Pictures shown at first, the worst ones; the others are a click away."""


def card(audit: Audit, score: Score) -> str:
    """Everything about one row. Reads picture files, so not for an event loop."""
    title = names(audit)[score.key] + (" again (placebo)" if score.placebo else "")
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in evidence(score))
    warnings = "".join(
        f'<p class="sp-alert">{escape(sentence)}</p>'
        for sentence in (*score.notes, *score.failures)
    )
    use = ""
    if score.available and not score.placebo:
        use = (
            f'<p class="sp-actions"><a class="sp-plain" href="./?use={_key(score)}">'
            "Use these settings</a></p>"
        )
    return (
        f'<section class="sp-card" id="row"><h2 class="sp-title">{escape(title)}</h2>{warnings}'
        f'<ul class="sp-list">{sentences}</ul>{use}{_witnesses(score)}{_pictures(score)}</section>'
    )


def _key(score: Score) -> str:
    return escape(score.key.replace(" ", "+"))


def _pictures(score: Score) -> str:
    if score.drift is None:
        return ""
    ordered = worst_first(score.drift)
    first = "".join(_pair(comparison) for comparison in ordered[:SHOWN])
    rest = "".join(_pair(comparison) for comparison in ordered[SHOWN:])
    more = (
        f'<details><summary class="sp-note">{len(ordered) - SHOWN} more</summary>{rest}</details>'
        if rest
        else ""
    )
    return f'<h3 class="sp-title">Beside the baseline, the worst first</h3>{first}{more}'


def _pair(comparison: Comparison) -> str:
    same = comparison.verdict == "bit-exact"
    figures = (
        "every pixel equal"
        if same
        else f"SSIM {similarity(comparison.ssim)}, worst tile "
        f"{similarity(comparison.ssim_worst_tile)}, channels up to {comparison.max_abs} of 255"
    )
    return (
        f'<div class="sp-pair">{chip(comparison.verdict, DRIFT_TONES[comparison.verdict])} '
        f'<span class="sp-note">{escape(comparison.prompt)}, seed {comparison.seed}: {figures}'
        f"</span>{strip(comparison.baseline_picture, comparison.candidate_picture, 'this setting')}"
        "</div>"
    )


def _witnesses(score: Score) -> str:
    parts = []
    for axis, verdict in score.determinism.items():
        if verdict.witness is not None:
            parts.append(
                f'<h3 class="sp-title">Broken: {AXIS_NAMES[axis]}</h3>{_witness(verdict.witness)}'
            )
    return "".join(parts)


def _witness(witness: Witness) -> str:
    return (
        f'<div class="sp-pair"><span class="sp-note">{escape(witness.prompt)}, seed '
        f"{witness.seed}: {escape(witness.difference)}</span>"
        f"{strip(witness.picture_a, witness.picture_b, 'another time', 'one time')}</div>"
    )


def strip(first: Path | None, second: Path | None, name: str, start: str = "baseline") -> str:
    """Two pictures and what is between them, amplified."""
    try:
        apart = (
            data_uri(difference_map(load_picture(first), load_picture(second)))
            if first and second
            else ""
        )
    except (OSError, ValueError):
        apart = ""
    shown = (
        (start, url(first) if first and first.is_file() else ""),
        (name, url(second) if second and second.is_file() else ""),
        (f"difference × {GAIN}", apart),
    )
    return f'<div class="sp-strip">{"".join(_figure(name, source) for name, source in shown)}</div>'


def _figure(name: str, source: str) -> str:
    picture = (
        f'<img class="sp-crisp" src="{escape(source)}" alt="{escape(name)}">'
        if source
        else '<span class="sp-gone">no file</span>'
    )
    return f"<figure>{picture}<figcaption>{escape(name)}</figcaption></figure>"
