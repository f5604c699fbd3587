"""`seedproof export`: a picture's settings, or any, for diffusers and for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from core import picture_file
from core.models import native_size, resolve
from core.request import Request
from webapp.cli_verify import receipt_in
from webapp.export import Export
from webapp.export_card import NAMES, exports
from webapp.places import is_file, places
from webapp.terminal import BadInput, print_json, say, tell
from webapp.words import settings_of


def add_to(app: typer.Typer) -> None:
    app.command()(export)


def export(
    source: Annotated[
        str,
        typer.Argument(help="A picture with a receipt, or settings: 'attention=none tf32=on'."),
    ],
    to: Annotated[str, typer.Option(help=f"One of {', '.join(NAMES)}.")] = "diffusers",
    model: Annotated[str, typer.Option(help="For settings: pocket, or a folder.")] = "pocket",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """A picture's settings, or any, for diffusers and for other programs."""
    wanted = next((name for name in NAMES if name.lower() == to.lower()), None)
    if wanted is None:
        raise BadInput(f"Unknown program {to!r}: choose one of {', '.join(NAMES)}.")
    known = _of_picture(Path(source)) if is_file(Path(source)) else _of_settings(source, model)
    found = next(made for made in known if made.program == wanted)
    if as_json:
        print_json(found)
    else:
        _show(found)


def _of_picture(path: Path) -> tuple[Export, ...]:
    receipt = receipt_in(picture_file.read(path), path.name)
    return exports(receipt.requests, receipt.configuration, receipt.environment.device)


def _of_settings(text: str, model: str) -> tuple[Export, ...]:
    from core.optimizations import configure
    from core.platforms import detect

    settings = settings_of(text)
    if not settings:
        raise BadInput(
            f"{text!r} is neither a picture's file nor settings: write for example "
            "'attention=sdp min-sigma=alternate:0.7'."
        )
    platform = detect()
    chosen = resolve(model, places(None).shipped_model)
    side = native_size(chosen)
    request = Request(prompt="", model=chosen, width=side, height=side)
    return exports((request,), configure(settings, platform), platform.device)


def _show(found: Export) -> None:
    """What is to be copied on standard output, so that it can go into a file; the rest beside."""
    for part in found.parts:
        tell(f"# {part.where}")
        say(part.text)
    for what, why in found.lost:
        tell(f"not carried: {what}: {why}")
    for remark in found.remarks:
        tell(f"note: {remark}")
    if found.same_pixels:
        tell("made to give the same pixels")
