"""What the terminal asks for: a request from its options, or from a picture and its options."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core import noise, samplers, schedules
from core.models import native_size
from core.picture_file import read
from core.picture_settings import take_over
from core.prompt_syntax import find_syntax
from core.request import Model, Request
from core.takeover import Taken
from webapp.terminal import BadInput, tell


def asked(source: Path | None, model: Model, said: Mapping[str, Any]) -> Taken:
    """The first picture's request, and settings beside it.

    `said` holds fields of a request; None leaves them to the picture `source`, or else to their
    defaults and to the model's own size.
    """
    fields = {name: value for name, value in said.items() if value is not None}
    if source is None and "prompt" not in fields:
        raise BadInput("Missing argument 'PROMPT': write what the picture shows, or give --from.")
    side = native_size(model)
    usual = Request(prompt="", model=model, prompt_syntax="a1111", width=side, height=side)
    taken = Taken(request=usual)
    if source is not None:
        taken = take_over(read(source), source.name, model)
    for name, canonical in (
        ("prompt_syntax", find_syntax),
        ("sampler", lambda text: samplers.find(text).name),
        ("schedule", lambda text: schedules.find(text).name),
        ("noise_source", noise.source),
    ):
        if name in fields:
            fields[name] = canonical(fields[name])
    return replace(taken, request=replace(taken.request, **fields))


def pictures(first: Request, count: int) -> list[Request]:
    """Picture i has seed + i. As in A1111, variations of one seed have one noise to start from,
    and picture i has the variation seed + i."""
    moved = "variation_seed" if first.variation_strength else "seed"
    return [replace(first, **{moved: getattr(first, moved) + i}) for i in range(count)]


def named(request: Request) -> str:
    """What tells one picture of several apart, for a file's name."""
    return (
        f"{request.seed}-{request.variation_seed}"
        if request.variation_strength
        else (str(request.seed))
    )


def tell_remarks(source: Path, taken: Taken) -> None:
    """What of a picture's settings is not here as it was there."""
    wrote = f" of {taken.program}" if taken.program else ""
    tell(f"{source.name}: the settings{wrote} are taken over")
    for remark in taken.remarks:
        how = "left" if remark.left else "otherwise"
        tell(f"  {how}: {remark.key} {remark.value} ({remark.sentence})")


def remarks_document(source: Path | None, taken: Taken) -> dict[str, Any] | None:
    """The same as JSON; null where no picture was named."""
    if source is None:
        return None
    return {"from": source.name, "program": taken.program, "remarks": taken.remarks}
