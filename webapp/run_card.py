"""One run as a reader sees it: the picture, what it took, and what really acted."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from audit.units import gigabytes
from core.optimization import Slot
from core.request import Request
from core.run import Effect, Effective, Memory, Picture, Run, SlotEffect
from webapp.ticket import Ticket
from webapp.token_counter import in_words
from webapp.usage_card import parts, what_follows
from webapp.words import ASKED_NAMES, Tone, about, chip, seconds, short

EFFECT_WORDS: Mapping[Effect, tuple[str, Tone]] = {
    "applied": ("applied", "good"),
    "none": ("had no effect", "bad"),
    "fell-back": ("fell back", "care"),
}
HEADINGS = ("Setting", "Asked for", "What happened", "Evidence")
_CRISP_BELOW = 256
"""Pictures smaller than this are shown enlarged with their pixels sharp, as they are."""

_COUNTS = 2
"""Counts shown at once; the others are a click away."""

EMPTY = (
    '<div class="sp-card sp-stage"><div class="sp-empty"><h2>Your picture appears here</h2>'
    "<p>Pick an example or write a prompt, then press Generate. You also get the seed, the time "
    "each stage took, and which of the settings really acted.</p></div></div>"
)


def ready(settings: Mapping[str, str]) -> str:
    """In place of a picture, where somebody comes with settings chosen elsewhere."""
    chips = " ".join(chip(f"{slot} {value}", "mine") for slot, value in settings.items())
    return (
        '<div class="sp-card sp-stage"><div class="sp-empty" role="status"><h2>Your settings are '
        f"filled in</h2><p>{chips}</p><p>Write a prompt and press Generate. “Back to defaults”, "
        "below the settings, undoes them.</p></div></div>"
    )


def url(path: Path) -> str:
    """A picture's address, relative to the app's root."""
    return f"./gradio_api/file={quote(str(path))}"


def problem(sentence: str, again: str = "") -> str:
    """What went wrong, and what to do, in place of the picture."""
    more = f" {escape(again)}" if again else ""
    return (
        '<div class="sp-card sp-stage"><div class="sp-alert sp-bad" role="alert">'
        f"{escape(sentence)}{more}</div></div>"
    )


def working(ticket: Ticket, device_taken_by: str = "") -> str:
    """A ticket that is not closed: its place in the queue, or its step with what remains."""
    request = ticket.job.requests[0]
    event = ticket.step
    if ticket.state == "waiting":
        words = _ahead(ticket.ahead)
    elif event is None:
        words = f"Waiting for {device_taken_by} to end" if device_taken_by else "Getting ready"
    elif event.step == event.num_inference_steps:
        words = "Decoding the picture"
    else:
        words = f"Step {event.step} of {event.num_inference_steps}"
    done = 0.0 if event is None else event.step / event.num_inference_steps
    left = "" if ticket.remaining is None or done == 1 else f"{about(ticket.remaining)} left"
    if ticket.state == "waiting" and ticket.wait is not None:
        left = f"begins in {about(ticket.wait)}"
    preview = ""
    if event is not None and event.preview_png is not None:
        source = f"data:image/png;base64,{b64encode(event.preview_png).decode()}"
        preview = f"<figure>{image(source, request, 'Preview', soft=True)}</figure>"
    return (
        f'<div class="sp-card sp-stage sp-working" data-run="{escape(ticket.job.id)}">{preview}'
        f'<div class="sp-progress"><p role="status"><span>{escape(words)}</span>'
        f'<span class="sp-note sp-figures">{escape(left or f"{ticket.seconds:.0f} s")}</span></p>'
        f'<div class="sp-bar-track"><span style="width:{done:.1%}"></span></div></div></div>'
    )


def finished(run: Run, mark: str = "") -> str:
    """The picture itself, by its file; `mark` says beside it what is known about its settings."""
    if run.outcome != "ok" or not run.pictures:
        return problem(run.reason or "No picture was made.", _advice(run))
    picture = run.pictures[0]
    if picture.path is None or not picture.path.is_file():
        return problem("The picture's file is gone.", "Generate it again: the seed is below.")
    request = picture.request
    source = url(picture.path)
    return (
        f'<div class="sp-card sp-stage" data-run="{escape(run.job.id)}">'
        f"<figure>{image(source, request, 'Picture')}"
        f'<figcaption class="sp-caption"><span>Seed <b class="sp-figures">{request.seed}</b> · '
        f"{request.width} × {request.height} · {seconds(run.timings.picture)}</span>"
        f'{mark}<span class="sp-carried"><a href="{source}" download '
        'title="The file carries its receipt">Download</a> '
        f'<a href="./verify?run={escape(run.job.id)}">Verify</a> '
        f'<a href="./grid?run={escape(run.job.id)}" title="Vary this picture">Grid</a>'
        f"</span></figcaption></figure>{_beside(run)}</div>"
    )


def _beside(run: Run) -> str:
    """The other pictures of a batch, each by its file."""
    others = [p for p in run.pictures[1:] if p.path is not None and p.path.is_file()]
    links = "".join(
        f'<a href="{url(p.path or Path())}" download title="Seed {p.request.seed}">'
        f"{image(url(p.path or Path()), p.request, 'Picture')}</a>"
        for p in others
    )
    if not links:
        return ""
    return f'<p class="sp-hint">Computed in the same batch:</p><div class="sp-recent">{links}</div>'


def facts(run: Run, slots: Sequence[Slot]) -> str:
    """Below the picture: what acted, what it took, and what identifies it."""
    if not run.pictures:
        return ""
    return (
        f'<section class="sp-card"><h2 class="sp-title">What really acted</h2>'
        f"{effects(run.effective, slots, 'effective')}</section>"
        f'<section class="sp-card"><h2 class="sp-title">What it took</h2>{_took(run)}</section>'
    )


def image(
    source: str, request: Request, what: str, *, lazy: bool = False, soft: bool = False
) -> str:
    """A picture of a request; small ones keep their pixels sharp when they are enlarged.

    A preview is soft: its few pixels are an estimate, which sharp edges would belie.
    """
    small = max(request.width, request.height) < _CRISP_BELOW
    crisp = ' class="sp-crisp"' if small and not soft else ""
    later = ' loading="lazy"' if lazy else ""
    return (
        f'<img src="{escape(source)}" alt="{what}: {escape(request.prompt)}"{crisp}{later} '
        f'width="{request.width}" height="{request.height}">'
    )


def _ahead(ahead: int) -> str:
    if ahead == 0:
        return "Next in line"
    return f"{ahead} picture{'s' if ahead > 1 else ''} before yours"


def _advice(run: Run) -> str:
    if run.outcome == "cancelled":
        return "The engine is free: press Generate whenever you like."
    return "Press Generate to try again; if it fails again, go back to the defaults."


def effects(effective: Effective, slots: Sequence[Slot], name: str) -> str:
    """What each setting did, with what was counted; what did not act comes first."""
    labels = {**ASKED_NAMES, **{slot.name: slot.label for slot in slots}}
    quiet = [effect for effect in effective.slots if effect.effect == "applied"]
    loud = [effect for effect in effective.slots if effect.effect != "applied"]
    notes = "".join(
        f'<p class="sp-alert"><b>Note.</b> {escape(note)}</p>' for note in effective.notes
    )
    if not effective.slots:
        return f'{notes}<p class="sp-hint">Nothing was asked for beyond plain computing.</p>'
    rows = "".join(_effect(effect, labels) for effect in (*loud, *quiet))
    headings = "".join(f'<th scope="col">{heading}</th>' for heading in HEADINGS)
    identity = f' id="{name}"' if name else ""
    return (
        f'{notes}<div class="sp-scroll"><table class="sp-table sp-stack"{identity}><thead>'
        f"<tr>{headings}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _effect(effect: SlotEffect, labels: Mapping[str, str]) -> str:
    word, tone = EFFECT_WORDS[effect.effect]
    loud = effect.effect != "applied"
    counts = [f"{name.replace('_', ' ')} {value:g}" for name, value in effect.counts.items()]
    operators = [f"{name} × {count}" for name, count in effect.operators.items()]
    evidence = escape(effect.reason) if loud else ""
    evidence += f'<div class="sp-note sp-figures">{escape(", ".join(counts[:_COUNTS]))}</div>'
    if hidden := counts[_COUNTS:] + operators:
        lines = "".join(f"<li>{escape(line)}</li>" for line in hidden)
        evidence += (
            '<details><summary class="sp-note">shapes and operators</summary>'
            f'<ul class="sp-list sp-mono">{lines}</ul></details>'
        )
    cells = (
        escape(labels.get(effect.slot, effect.slot)),
        escape(effect.requested),
        chip(word, tone),
        evidence,
    )
    tds = "".join(
        f'<td data-label="{heading}"><div>{cell}</div></td>'
        for heading, cell in zip(HEADINGS, cells, strict=True)
    )
    return f'<tr{" class=sp-loud" if loud else ""} data-effect="{effect.effect}">{tds}</tr>'


def _took(run: Run) -> str:
    timings, picture, calls = run.timings, run.pictures[0], run.effective.unet_calls
    more = f" in {calls} UNet calls" if calls > len(timings.steps) else ""
    stages = (
        ("text", timings.encode),
        (f"{len(timings.steps)} steps{more}", timings.denoise),
        ("decoding", timings.decode),
        ("saving", timings.save),
    )
    whole = sum(value for _, value in stages) or 1.0
    strip = "".join(f'<span style="width:{value / whole:.2%}"></span>' for _, value in stages)
    words = " · ".join(f"{name} {seconds(value)}" for name, value in stages)
    if timings.load > 0.05:
        words += f" · before that, loading the model {seconds(timings.load)}"
    rows = (
        ("Time", f'<div class="sp-stages" aria-hidden="true">{strip}</div>{escape(words)}'),
        ("Times", escape(run.environment.timing_caveat)),
        ("Peak memory", _memory(run.memory)),
        *(
            (name, escape(in_words(sizes[0])))
            for name, sizes in (
                ("Prompt", run.effective.prompts),
                ("Negative prompt", run.effective.negative_prompts),
            )
            if sizes
        ),
        ("By part", parts(run)),
        ("Bottleneck", what_follows(run)),
        ("Seed", f'<span class="sp-figures">{picture.request.seed}</span>'),
        ("Digests", _digests(picture)),
    )
    items = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows if value)
    return f'<dl class="sp-facts">{items}</dl>'


def _memory(memory: Memory) -> str:
    if memory.peak_bytes is None:
        return escape(memory.kind)
    return f"{gigabytes(memory.peak_bytes)} ({escape(memory.kind)})"


def _digests(picture: Picture) -> str:
    parts = (
        ("pixels", picture.pixels_sha256),
        ("latents", picture.latents_sha256),
        ("noise", picture.noise_sha256),
    )
    return " · ".join(
        f'{name} <span class="sp-mono" data-digest="{name}" title="{digest}">{short(digest)}</span>'
        for name, digest in parts
    )
