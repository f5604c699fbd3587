"""Sheets of pictures for the card, and the prompts of the one that stands at its head."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

COLUMNS = 8


def sheet(pictures: list[Image.Image], path: Path, columns: int = COLUMNS) -> None:
    """Pictures of any sizes in rows, left to right, as a PNG with a palette: small, and enough for
    flat colours. Nothing is written for no pictures."""
    if not pictures:
        path.unlink(missing_ok=True)
        return
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    width = max(sum(picture.width for picture in row) for row in rows)
    canvas = Image.new("RGB", (width, sum(max(p.height for p in row) for row in rows)))
    y = 0
    for row in rows:
        x = 0
        for picture in row:
            canvas.paste(picture, (x, y))
            x += picture.width
        y += max(picture.height for picture in row)
    canvas.quantize(160, dither=Image.Dither.NONE).save(path, optimize=True)


GRID = (
    "a red apple, cartoon style, white background",
    "a panda, flat style, green background",
    "a rocket, cartoon style, black background",
    "a sunflower, cartoon style, blue background",
    "a penguin, flat style, pink background",
    "a grinning face, cartoon style, red background",
    "a watermelon, flat style, yellow background",
    "a robot, flat style, purple background",
    "a cat on the left, cartoon style, purple background",
    "a cat on the right, cartoon style, purple background",
    "a star on the left, flat style, blue background",
    "a heart on the right, flat style, black background",
    "a blue fish on the left, flat style, yellow background",
    "a golden owl, flat style, green background",
    "a purple octopus, cartoon style, white background",
    "a green frog, flat style, pink background",
    "a small bee, cartoon style, blue background",
    "a small house, cartoon style, green background",
    "a pizza, cartoon style, black background",
    "a carrot, flat style, white background",
    "a crown, cartoon style, purple background",
    "a mushroom, flat style, green background",
    "an airplane, cartoon style, blue background",
    "a cat and a dog, flat style, white background",
)
"""Prompts of the grid, read row by row."""
