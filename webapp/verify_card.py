"""What a picture's receipt says, and what a rerun of it says about the picture."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from audit.metrics import METRICS
from audit.pictures import data_uri
from audit.units import similarity
from audit.verdicts import meaning
from audit.verification import Verification
from core.picture_file import PictureFile
from core.receipt import Receipt
from core.request import PromptSyntax, Request
from core.takeover import Taken
from webapp.cli_verify import unproved
from webapp.comparer import Pair, comparer
from webapp.taking import remark_list
from webapp.words import DRIFT_TONES, beside, chip, short

EMPTY = (
    '<section class="sp-card" id="receipt"><div class="sp-empty">'
    "<h2>Is a picture what it says it is?</h2>"
    "<p>Every picture that Seedproof makes carries a receipt: the prompt and the seed, the "
    "settings and what they really did, the machine, and a digest of the noise, of every step and "
    "of the pixels. Put one in, and it is made again from that receipt.</p>"
    "<p>You then learn whether it is the same bit for bit, and if not, how far off, from which "
    "step on, and what may be the cause: an edited pixel, another version, other threads.</p>"
    "</div></section>"
)


def refused(sentence: str) -> str:
    """In place of a receipt, or of a verdict."""
    return (
        f'<section class="sp-card"><div class="sp-alert sp-bad" role="alert">{escape(sentence)}'
        "</div></section>"
    )


def receipt_card(receipt: Receipt, file: PictureFile, name: str) -> str:
    """What the picture says about itself; nothing of it is proved yet."""
    request, made = receipt.request, receipt.environment
    neighbours = len(receipt.requests)
    rows = [
        *_asked(request),
        ("Settings", " ".join(_setting(receipt, *pair) for pair in receipt.configuration)),
        (
            "Batch",
            f"picture {receipt.position + 1} of {neighbours} computed together"
            if neighbours > 1
            else "",
        ),
        ("Model", f"{escape(request.model.name)} {_digest(request.model.digest)}"),
        (
            "Made on",
            escape(
                f"{receipt.device_name} ({made.device}), {made.threads} threads, "
                f"{made.instruction_set}, torch {made.versions.get('torch', 'unknown')}, "
                f"{receipt.program}"
            ),
        ),
        ("Pixels", _pixels(receipt, file)),
    ]
    return (
        '<section class="sp-card" id="receipt"><h2 class="sp-title">What the receipt says</h2>'
        f"{_facts(rows, file, name)}"
        f'<details class="sp-more"><summary>The settings as other programs read them</summary>'
        f'<pre class="sp-mono">{escape(file.texts.infotext)}</pre></details></section>'
    )


def foreign_card(found: Taken, file: PictureFile, name: str) -> str:
    """What another program's text says about a picture, and why nothing can be proved by it."""
    settings = " ".join(chip(f"{slot} {value}") for slot, value in found.settings.items())
    rows = [*_asked(found.request), ("Settings", settings), ("Written by", escape(found.program))]
    return (
        '<section class="sp-card" id="receipt"><h2 class="sp-title">What its metadata say</h2>'
        f"{_facts(rows, file, name)}"
        f'<div class="sp-alert" role="alert">{escape(name)} {escape(unproved(file.texts))}</div>'
        f"{remark_list(found)}"
        '<p class="sp-hint">The first page can take these settings over: drop the picture in '
        "there.</p></section>"
    )


def _asked(request: Request) -> list[tuple[str, str]]:
    return [
        ("Prompt", escape(request.prompt)),
        ("Negative prompt", escape(request.negative_prompt)),
        ("Prompts are read", _syntax(request.prompt_syntax)),
        (
            "Picture",
            f"seed {request.seed} · {request.width} × {request.height} · "
            f"{request.num_inference_steps} steps of {escape(request.sampler)} · guidance "
            f"{request.guidance_scale:g}",
        ),
        ("Besides", escape(" · ".join(beside(request)))),
    ]


def _facts(rows: Sequence[tuple[str, str]], file: PictureFile, name: str) -> str:
    items = "".join(f"<dt>{title}</dt><dd>{value}</dd>" for title, value in rows if value)
    return (
        f'<div class="sp-receipt"><img src="{data_uri(file.pixels)}" '
        f'alt="The picture {escape(name)}"><dl class="sp-facts">{items}</dl></div>'
    )


def verdict_card(found: Verification, receipt: Receipt, file: Path, rerun: Path) -> str:
    """The verdict, its reasons, and both pictures in one place."""
    tone = DRIFT_TONES[found.verdict]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in found.reasons)
    edited = chip("the file was edited", "bad") if found.intact is False else ""
    pictures = ""
    if found.metrics:
        pictures = comparer(
            [
                Pair(
                    first=file,
                    second=rerun,
                    word=found.verdict,
                    tone=tone,
                    caption=_figures(found),
                )
            ],
            ("the file", "the rerun"),
            (receipt.request.width, receipt.request.height),
            "The file beside its rerun",
        )
    return (
        f'<section class="sp-card" id="verdict" data-verdict="{found.verdict}">'
        f'<h2 class="sp-answer" tabindex="-1">{chip(found.verdict, tone)} '
        f"{escape(meaning(found.verdict))} {edited}</h2>"
        f'<ul class="sp-list">{reasons}</ul>{pictures}{_differences(found)}</section>'
    )


def _syntax(syntax: PromptSyntax) -> str:
    return "as AUTOMATIC1111 reads them" if syntax == "a1111" else "plain, as they stand"


def _setting(receipt: Receipt, slot: str, value: str) -> str:
    effect = receipt.effective.slot(slot)
    did = effect.effect if effect else "not recorded"
    tone = "quiet" if did == "applied" else "care"
    words = {"applied": "", "none": ", had no effect", "fell-back": ", fell back"}
    return chip(
        f"{slot} {value}{words.get(did, f', {did}')}", tone, effect.reason if effect else ""
    )


def _digest(digest: str) -> str:
    return f'<span class="sp-mono" title="{escape(digest)}">{escape(short(digest))}</span>'


def _pixels(receipt: Receipt, file: PictureFile) -> str:
    named = _digest(receipt.pixels_sha256)
    if file.pixels_sha256 == receipt.pixels_sha256:
        return f"{named} {chip('the file has these pixels', 'good')}"
    if file.lossless:
        return f"{named} {chip('the file has other pixels: it was edited', 'bad')}"
    return f"{named} {chip(f'of the lossless original; this is a lossy {file.format}', 'care')}"


def _figures(found: Verification) -> str:
    if found.verdict == "bit-exact":
        return "every pixel equal"
    values = found.metrics
    return (
        f"SSIM {similarity(values['ssim'])}, worst tile {similarity(values['ssim_worst_tile'])}, "
        f"channels up to {values['max_abs']:.0f} of 255"
    )


def _differences(found: Verification) -> str:
    """All figures, and all facts that are not as they were, behind a click."""
    figures = "".join(
        f"<dt>{escape(metric.label)}</dt><dd>{found.metrics[metric.name]:.6g} {metric.unit}</dd>"
        for metric in METRICS
        if metric.name in found.metrics
    )
    rows = "".join(
        f"<dt>{escape(d.what)}</dt><dd>{escape(d.then)}, here {escape(d.here)}</dd>"
        for d in found.differences
    )
    other = rows or "<dt>Differences</dt><dd>nothing that the receipt records</dd>"
    return (
        '<details class="sp-more"><summary>All figures, and what differs here</summary>'
        f'<dl class="sp-facts">{figures}{other}</dl></details>'
    )
