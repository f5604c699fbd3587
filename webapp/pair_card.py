"""Any two pictures of a history side by side: how far apart, and what was asked otherwise."""

from collections.abc import Sequence
from dataclasses import fields
from html import escape

from audit.divergence import first_differing_step
from audit.drift import compare
from audit.pictures import LoadPicture
from audit.score import Comparison
from audit.units import similarity
from audit.verdicts import meaning
from core.history import Generation
from core.request import Request
from core.run import Picture, Run
from webapp.comparer import Pair, comparer
from webapp.words import DRIFT_TONES, Tone, seconds

EMPTY = (
    '<section class="sp-card sp-empty"><h2>Choose two pictures</h2><p>In your '
    '<a href="./history">history</a>, select two pictures and press <b>Compare the two</b>. You '
    "get a line to move between them, their difference amplified, how far apart they are, and "
    "the step at which they first parted.</p></section>"
)
NOT_THERE = (
    '<section class="sp-card"><div class="sp-alert sp-bad" role="alert">One of these pictures is '
    "not yours and not shared, or is deleted. Choose two in your "
    '<a href="./history">history</a>.</div></section>'
)


def card(first: Generation, second: Generation, load: LoadPicture) -> str:
    """Both pictures must have been made; sizes may differ, and are then not measured."""
    a, b = first.run.pictures[0], second.run.pictures[0]
    said: tuple[str, Tone, str]
    try:
        compared = compare(a, b, load)
        verdict = compared.verdict
        said, measured = (verdict, DRIFT_TONES[verdict], meaning(verdict)), _measured(compared)
    except (OSError, ValueError) as error:
        said, measured = ("not measured", "quiet", _why_not(a, b, error)), ""
    word, tone, caption = said
    pair = Pair(first=a.path, second=b.path, word=word, tone=tone, caption=caption)
    size = (max(a.request.width, b.request.width), max(a.request.height, b.request.height))
    return (
        '<section class="sp-card"><h2 class="sp-title">A beside B</h2>'
        f"{comparer([pair], ('A', 'B'), size, 'A and B')}"
        f'<dl class="sp-facts">{measured}{_parting(a, b)}</dl></section>'
        f'<section class="sp-card"><h2 class="sp-title">What was asked otherwise</h2>'
        f"{_differing(first.run, second.run)}</section>"
    )


def _measured(compared: Comparison) -> str:
    rows = (
        ("SSIM", similarity(compared.ssim)),
        ("SSIM, lowest 16 px tile", similarity(compared.ssim_worst_tile)),
        ("ΔE2000, mean", f"{compared.delta_e_mean:.2f}"),
        ("ΔE2000, highest 16 px tile", f"{compared.delta_e_worst_tile:.2f}"),
        ("pHash", f"{compared.phash} of 64 bits differ"),
        ("Largest difference", f"{compared.max_abs} of 255 levels"),
    )
    return "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)


def _why_not(a: Picture, b: Picture, error: Exception) -> str:
    sizes = [f"{p.request.width} × {p.request.height}" for p in (a, b)]
    if sizes[0] != sizes[1]:
        return f"A has {sizes[0]} pixels and B {sizes[1]}: pictures of one size can be measured."
    return f"The files could not be read: {error}."


def _parting(a: Picture, b: Picture) -> str:
    """Where the two first part, by the digests that both carry; nothing is guessed."""
    steps = min(len(a.step_sha256s), len(b.step_sha256s))
    step = first_differing_step(a, b)
    if step == 0:
        words = "the initial noise"
    elif step is not None:
        words = f"step {step} of {steps}; until then all latents are equal, bit for bit"
    elif not steps:
        words = "not known: one of them has no digests of its steps"
    elif a.latents_sha256 != b.latents_sha256 or len(a.step_sha256s) != len(b.step_sha256s):
        words = f"after step {steps}: all that both have are equal, bit for bit"
    elif a.pixels_sha256 != b.pixels_sha256:
        words = "decoding: all latents are equal, bit for bit"
    else:
        words = "nothing: noise, latents and pixels are equal, bit for bit"
    return f"<dt>First to differ</dt><dd>{words}</dd>"


def _differing(first: Run, second: Run) -> str:
    rows = [
        (field.name.replace("_", " "), _shown(one), _shown(other))
        for field in fields(Request)
        if (one := getattr(first.job.requests[0], field.name))
        != (other := getattr(second.job.requests[0], field.name))
    ]
    a, b = first.job.configuration, second.job.configuration
    slots = sorted({slot for slot, _ in (*a, *b)})
    rows += [(slot, a.get(slot), b.get(slot)) for slot in slots if a.get(slot) != b.get(slot)]
    here, there = first.environment.fingerprint, second.environment.fingerprint
    if here != there:
        rows.append(("platform", here, there))
    rows.append(("time", seconds(first.timings.picture), seconds(second.timings.picture)))
    only_time = len(rows) == 1
    told = '<p class="sp-hint">Nothing: the same request and settings.</p>' if only_time else ""
    return told + _table(rows, (first.job.id, second.job.id))


def _shown(value: object) -> str:
    name = getattr(value, "name", None)
    return str(name if isinstance(name, str) else value) or "—"


def _table(rows: Sequence[tuple[str, str, str]], ids: tuple[str, str]) -> str:
    heads = "".join(
        f'<th scope="col"><a href="./history?picture={escape(run_id)}">{letter}</a></th>'
        for letter, run_id in zip("AB", ids, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(one)}</td>'
        f"<td>{escape(other)}</td></tr>"
        for name, one, other in rows
    )
    return (
        '<div class="sp-scroll"><table class="sp-table" id="otherwise"><thead><tr><th scope="col">'
        f'<span class="sp-unseen">What</span></th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
