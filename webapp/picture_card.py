"""One picture of a history up close: what it is, its tags, and who else may open it."""

from html import escape

from core.history import NOBODY, Generation
from core.run import Run
from webapp.run_card import image, url
from webapp.words import beside, chip, seconds

NOT_THERE = (
    '<section class="sp-card"><div class="sp-alert sp-bad" role="alert">There is no such picture '
    "of yours, and none that is shared under this address.</div></section>"
)

SCRIPT = """
const run = () => element.querySelector("[data-picture]")?.dataset.picture;
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.untag) trigger("untag", { run: run(), tag: button.dataset.untag });
  if (button.dataset.share) trigger("publish", { run: run(), on: button.dataset.share });
  if (button.matches("[data-close]")) trigger("close");
});
element.addEventListener("submit", (event) => {
  event.preventDefault();
  const input = event.target.querySelector("input");
  if (input.value.trim()) trigger("tag", { run: run(), tag: input.value });
});
"""


def card(generation: Generation, mark: str, *, mine: bool, told: str = "") -> str:
    """The picture large, with what leads on from it; only its owner can change anything."""
    run = generation.run
    picture, request = run.pictures[0], run.pictures[0].request
    run_id = escape(run.job.id)
    facts = (
        f"seed {request.seed}",
        f"{request.width} × {request.height} px",
        f"{request.num_inference_steps} steps",
        request.sampler,
        f"guidance {request.guidance_scale:g}",
        *beside(request),
        *(f"{slot} {value}" for slot, value in run.job.configuration),
        seconds(run.timings.picture),
    )
    negative = request.negative_prompt
    negated = f'<p class="sp-hint">Not: {escape(negative)}</p>' if negative else ""
    said = f'<p class="sp-tokens sp-tokens-bad" role="alert">{escape(told)}</p>' if told else ""
    own = _own(generation) if mine else f'<p class="sp-hint">{_whose(generation)}</p>'
    links = (
        f'<a class="sp-plain" href="./?run={run_id}">Open in Generate</a>'
        f'<a class="sp-plain" href="./grid?run={run_id}">Vary it</a>'
        f'<a class="sp-plain" href="./verify?run={run_id}">Verify</a>{_download(run)}'
        '<button type="button" class="sp-plain" data-close>Close</button>'
    )
    shown = "<p class='sp-hint'>The picture’s file is gone.</p>"
    if picture.path is not None and picture.path.is_file():
        shown = image(url(picture.path), request, "Picture")
    return (
        f'<section class="sp-card" data-picture="{run_id}"><div class="sp-detail"><div>{shown}'
        f"</div><div><h2>{escape(request.prompt)}</h2>{negated}<p>"
        f"{' '.join(chip(fact) for fact in facts)}</p><p>{mark}</p>{own}{said}"
        f'<p class="sp-actions">{links}</p></div></div></section>'
    )


def _whose(generation: Generation) -> str:
    """Why somebody sees a picture that is not theirs."""
    if generation.shared:
        return "Shared with you by its address."
    if generation.owner == NOBODY:
        return "It is nobody’s: made in a terminal, or by a browser that keeps no secret."
    return "It is another user’s and not shared; you see it as an admin."


def _own(generation: Generation) -> str:
    tags = " ".join(
        f'<button type="button" class="sp-plain sp-tag" data-untag="{escape(tag)}" '
        f'aria-label="Remove the tag {escape(tag)}">{escape(tag)} ×</button>'
        for tag in generation.tags
    )
    if generation.shared:
        share = (
            '<p class="sp-hint">Whoever has this page’s address can open the picture. '
            '<button type="button" class="sp-plain" data-share="off">Stop sharing</button></p>'
        )
    else:
        share = (
            '<p class="sp-hint">Only you can open this address. '
            '<button type="button" class="sp-plain" data-share="on">Share it</button></p>'
        )
    return (
        f'<form class="sp-tags">{tags} <input type="text" maxlength="40" placeholder="a new tag" '
        'aria-label="A new tag"><button type="submit" class="sp-plain">Add</button></form>'
        f"{share}"
    )


def _download(run: Run) -> str:
    path = run.pictures[0].path
    if path is None or not path.is_file():
        return ""
    return f'<a class="sp-plain" href="{url(path)}" download>Download</a>'
