"""A grid as one PNG: every picture with its labels, its drift and its time."""

import math
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from audit.grid_figures import CellFigures
from audit.units import similarity
from core.grid import Cell, Grid
from core.run import Run
from webapp.words import seconds

MOST_PIXELS = 2**26
"""Of all cells together; larger pictures are shown smaller, so that the file can be opened."""
NARROWEST = 168
"""Pixels of a column, or the words below a small picture would not fit."""

_GAP, _LINE, _SIDE = 12, 18, 150
_INK, _QUIET, _PAGE, _EMPTY = "#1d211f", "#5b625e", "#ffffff", "#efeeea"


def write_sheet(
    grid: Grid,
    runs: Mapping[str, Run],
    found: Mapping[str, CellFigures | None],
    target: Path,
) -> None:
    """Write the whole grid; cells without a picture are empty and say why. Raises OSError."""
    sheet(grid, runs, found).save(target, "PNG")


def sheet(
    grid: Grid, runs: Mapping[str, Run], found: Mapping[str, CellFigures | None]
) -> Image.Image:
    """X across, Y down, and one such block below the other for Z."""
    counts = [len(axis.values) for axis in grid.axes] + [1, 1]
    across, down, deep = counts[:3]
    asked = [cell.job.requests[0] for cell in grid.cells]
    shrink = math.sqrt(min(1.0, MOST_PIXELS / sum(r.width * r.height for r in asked)))
    width = max(NARROWEST, round(max(r.width for r in asked) * shrink))
    height = round(max(r.height for r in asked) * shrink)
    column, row = width + _GAP, height + 2 * _LINE + _GAP
    left = _SIDE + _GAP if len(grid.axes) > 1 else _GAP
    top = 2 * _LINE if len(grid.axes) > 2 else _GAP
    block = top + _LINE + 6 + down * row
    image = Image.new("RGB", (left + across * column, deep * block + _GAP), _PAGE)
    draw, bold, plain = ImageDraw.Draw(image), _font(14), _font(12)
    for cell in grid.cells:
        x, y, z = (*cell.place, 0, 0)[:3]
        corner = (left + x * column, z * block + top + _LINE + 6 + y * row)
        labels = [f"{name} {value}" for name, value in grid.labels(cell)]
        if y == 0:
            spot = (corner[0], corner[1] - _LINE - 4)
            draw.text(spot, _cut(draw, labels[0], bold, width), _INK, bold)
        if x == 0 and len(labels) > 1:
            spot = (_GAP, corner[1] + height // 2)
            draw.text(spot, _cut(draw, labels[1], bold, _SIDE), _INK, bold)
        if x == y == 0 and len(labels) > 2:
            spot = (_GAP, z * block + 8)
            draw.text(spot, _cut(draw, labels[2], bold, image.width - 2 * _GAP), _INK, bold)
        _place(image, draw, runs.get(cell.job.id), corner, (width, height), shrink)
        told = words(cell, found[cell.job.id])
        for line, text in enumerate(told):
            spot = (corner[0], corner[1] + height + 2 + line * _LINE)
            draw.text(spot, _cut(draw, text, plain, width), _QUIET, plain)
    return image


def words(cell: Cell, known: CellFigures | None) -> tuple[str, str]:
    """Drift and time of one cell, in two short lines."""
    if known is None:
        return "not made yet", ""
    if known.seconds is None:
        return known.outcome, known.why_not
    time = seconds(known.seconds)
    if known.without_effect:
        time += f" · no effect: {', '.join(known.without_effect)}"
    if known.notes:
        time += " · other settings: memory ran out"
    if known.is_reference:
        return "compared with", time
    if known.comparison is None:
        return "not compared", f"{time} · {known.why_not}"
    if known.comparison.verdict == "bit-exact":
        return "bit-exact", time
    return known.comparison.verdict, f"{time} · SSIM {similarity(known.comparison.ssim)}"


def _place(
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    run: Run | None,
    corner: tuple[int, int],
    room: tuple[int, int],
    shrink: float,
) -> None:
    path = run.pictures[0].path if run and run.pictures else None
    if path is None or not path.is_file():
        draw.rectangle((*corner, corner[0] + room[0], corner[1] + room[1]), fill=_EMPTY)
        return
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if shrink < 1:
        size = (round(picture.width * shrink), round(picture.height * shrink))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    image.paste(picture, corner)


def _cut(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """As much of a text as has room, in one line."""
    text = " ".join(text.split())
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}…", font) > width:
        text = text[:-1]
    return f"{text}…"


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise OSError("Pillow was built without FreeType, which writes the labels of a grid.")
    return font
