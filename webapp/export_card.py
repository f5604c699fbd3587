"""The same settings for other programs: to copy, with what does not come along."""

from html import escape

from core.optimization import Configuration
from core.request import Request
from webapp.export import Export, told
from webapp.export_diffusers import script
from webapp.export_programs import PROGRAMS
from webapp.words import chip

NAMES = ("diffusers", *(program.name for program in PROGRAMS))


def exports(
    requests: tuple[Request, ...], configuration: Configuration, device: str
) -> tuple[Export, ...]:
    """For every program that we can tell, diffusers first: it alone is told the whole picture."""
    others = (told(program, configuration) for program in PROGRAMS)
    return (script(requests, configuration, device), *others)


def elsewhere(requests: tuple[Request, ...], configuration: Configuration, device: str) -> str:
    """One fold per program."""
    folds = "".join(_fold(export) for export in exports(requests, configuration, device))
    return (
        '<section class="sp-card" id="elsewhere"><h2 class="sp-title">The same elsewhere</h2>'
        '<p class="sp-hint">As a script for diffusers, and in the words of other programs. Their '
        "names were read from their code, and nothing was run there.</p>"
        f"{folds}</section>"
    )


def _fold(export: Export) -> str:
    state = chip(f"{len(export.lost)} not carried", "care") if export.lost else ""
    if export.same_pixels:
        state = chip(
            "made to give the same pixels", "good", "On a CPU, a test holds each setting to it"
        )
    parts = "".join(
        f'<p class="sp-note">{escape(part.where)}</p>'
        f'<pre class="sp-copy" tabindex="0" aria-label="{escape(part.where)}: select and copy">'
        f"{escape(part.text)}</pre>"
        for part in export.parts
    )
    lost = "".join(f"<li><b>{escape(what)}</b>: {escape(why)}</li>" for what, why in export.lost)
    left = f'<p class="sp-note">Not carried</p><ul class="sp-list">{lost}</ul>' if lost else ""
    said = "".join(f"<li>{escape(remark)}</li>" for remark in export.remarks)
    remarks = f'<ul class="sp-list">{said}</ul>' if said else ""
    return (
        f'<details class="sp-fold" data-program="{escape(export.program)}"><summary>'
        f"<span>{escape(export.program)}</span> {state} "
        f'<span class="sp-note">{escape(export.checked)}</span></summary>'
        f"{parts}{left}{remarks}</details>"
    )
