"""Pictures as a wall: one page of somebody's history, and the strip of the latest."""

import math
from collections.abc import Callable
from datetime import datetime
from html import escape

from core import thumbnail
from core.history import Generation, HistoryPage
from core.run import Run
from webapp.run_card import image, url
from webapp.words import chip

NONE_YET = (
    '<section class="sp-card sp-empty" id="nothing"><h2>No pictures yet</h2>'
    "<p>Every picture that you make is kept here with its prompt, its seed and "
    "the settings that really acted, also after a restart of the server.</p>"
    '<p class="sp-actions"><a class="sp-plain sp-main" href="./">Make the first one</a></p>'
    "</section>"
)


TOOLS = (
    '<div class="sp-tools" role="group" aria-label="Selected pictures"><label><input '
    'type="checkbox" data-all> Select this page</label>'
    '<button type="button" class="sp-plain" data-everything hidden></button>'
    '<span class="sp-note sp-figures" data-count aria-live="polite"></span>'
    '<span class="sp-tools-more" hidden>'
    '<a class="sp-plain" data-compare hidden>Compare the two</a>'
    '<button type="button" class="sp-plain" data-act="zip">Download</button>'
    '<input type="text" data-tag maxlength="40" placeholder="a tag" aria-label="A tag">'
    '<button type="button" class="sp-plain" data-act="tag">Add tag</button>'
    '<button type="button" class="sp-plain" data-ask-all>Delete</button>'
    '<button type="button" class="sp-plain sp-sure" data-act="delete" hidden></button>'
    '<button type="button" class="sp-plain sp-sure" data-keep-all hidden>Keep</button>'
    "</span></div>"
)
"""What can be done with selected pictures; the browser shows it where some are."""


def wall(
    found: HistoryPage,
    search: str,
    page: int,
    per_page: int,
    mark: Callable[[Run], str],
    query: str = "",
    *,
    narrowed: bool = False,
) -> str:
    """One page with what leads to the others; teaches where there is nothing.

    `query` is what the address says of it; `narrowed` whether more than words narrow it.
    """
    if not found.total and not (search or narrowed):
        return NONE_YET
    pages = max(1, math.ceil(found.total / per_page))
    pictures = "1 picture" if found.total == 1 else f"{found.total} pictures"
    said = f"{pictures} with “{escape(search)}”" if search else f"{pictures} of yours"
    said += ", as chosen" if narrowed else ""
    shots = "".join(_shot(generation, mark(generation.run)) for generation in found.generations)
    if not found.total:
        shots = (
            '<li class="sp-hint">Every word has to occur in the prompt, the settings '
            "(<b>token-merging</b>, <b>sdp</b>), the sampler or as <b>seed 7</b>. Try fewer words"
            f"{', or choose “any” again' if narrowed else ''}.</li>"
        )
    return (
        f'<div data-page="{page}" data-query="{escape(query)}" data-total="{found.total}">'
        f'<p class="sp-hint" role="status">{said}</p>{TOOLS if found.total else ""}'
        f'<ul class="sp-wall">{shots}</ul>'
        f"{_turn(page, pages)}</div>"
    )


def strip(found: HistoryPage) -> str:
    """The latest pictures in one row; empty where there is at most the one on the stage."""
    if found.total < 2:
        return ""
    links = "".join(
        f'<a href="./?run={escape(generation.run.job.id)}">{_image(generation.run)}</a>'
        for generation in found.generations
    )
    return (
        '<section class="sp-card"><div class="sp-head"><h2 class="sp-title">Your latest</h2>'
        f'<a href="./history">All {found.total}</a></div><div class="sp-recent">{links}</div>'
        "</section>"
    )


def _shot(generation: Generation, mark: str) -> str:
    run = generation.run
    picture = run.pictures[0]
    request, run_id = picture.request, escape(run.job.id)
    others = f" · and {len(run.pictures) - 1} more" if len(run.pictures) > 1 else ""
    download = ""
    if picture.path is not None and picture.path.is_file():
        download = (
            f'<a class="sp-plain" href="{url(picture.path)}" '
            'download title="The file carries its receipt">Download</a>'
            f'<a class="sp-plain" href="./verify?run={run_id}">Verify</a>'
        )
    return (
        f'<li class="sp-shot" data-shot="{run_id}"><label class="sp-pick-one"><input '
        f'type="checkbox" value="{run_id}" aria-label="Select: {escape(request.prompt)}"></label>'
        f'<a href="./?run={run_id}">{_image(run)}</a>'
        f'<p class="sp-shot-prompt" title="{escape(request.prompt)}">{escape(request.prompt)}</p>'
        f'<p class="sp-note sp-figures">seed {request.seed} · {request.width} × {request.height}'
        f"{others}<br>{_when(generation.made_at)}</p><p>{mark}</p>{_tags(generation)}"
        f'<div class="sp-shot-actions"><a class="sp-plain" href="./history?picture={run_id}">'
        f"Details</a>{download}"
        f'<button type="button" class="sp-plain" data-ask aria-label="Delete this picture">Delete'
        "</button>"
        f'<button type="button" class="sp-plain sp-sure" data-remove="{run_id}" hidden>'
        "Delete for good</button>"
        '<button type="button" class="sp-plain sp-sure" data-keep hidden>Keep</button></div></li>'
    )


def _tags(generation: Generation) -> str:
    words = [*generation.tags, *(["shared"] if generation.shared else [])]
    tones = ["mine"] * len(generation.tags) + ["care"]
    chips = " ".join(chip(word, tone) for word, tone in zip(words, tones, strict=False))
    return f"<p>{chips}</p>" if chips else ""


def _image(run: Run) -> str:
    picture = run.pictures[0]
    if picture.path is None or not picture.path.is_file():
        return '<span class="sp-gone">no file</span>'
    request = picture.request
    try:
        shown = thumbnail.of(picture.path, request.width, request.height)
    except OSError:
        shown = picture.path
    return image(url(shown), request, "Picture", lazy=True)


def _turn(page: int, pages: int) -> str:
    if pages == 1:
        return ""
    newer = _button("Newer", page - 1, page > 1)
    older = _button("Older", page + 1, page < pages)
    return (
        f'<nav class="sp-turn" aria-label="Pages of the history">{newer}'
        f'<span class="sp-note sp-figures">page {page} of {pages}</span>{older}</nav>'
    )


def _button(words: str, page: int, there: bool) -> str:
    off = "" if there else " disabled"
    return f'<button type="button" class="sp-plain" data-turn="{page}"{off}>{words}</button>'


def _when(moment: str) -> str:
    """A stored moment in the server's own time."""
    return datetime.fromisoformat(moment).astimezone().strftime("%-d %b %Y, %H:%M")
