"""The pictures the model learns from: 45 emoji in two drawing styles, rendered once.

Both icon sets come from npm as one JSON of SVG bodies each; only packages whose licence allows
derived works are used (see ../NOTICE).
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STYLES = {"cartoon": "@iconify-json/noto@1.2.9", "flat": "@iconify-json/fluent-emoji-flat@1.2.6"}
"""Style word in the prompt → the npm package that draws it."""

NAMES = [
    *("cat", "dog", "pig", "panda", "lion", "monkey", "frog", "rabbit", "bear", "penguin", "owl"),
    *("fish", "octopus", "whale", "butterfly", "bee", "turtle"),
    *("red apple", "banana", "strawberry", "watermelon", "pineapple", "carrot", "pizza"),
    *("hamburger", "donut", "sunflower", "rose", "mushroom", "cactus", "palm tree"),
    *("rocket", "airplane", "automobile", "sailboat", "house", "umbrella", "guitar", "robot"),
    *("ghost", "heart", "star", "sun", "grinning face", "crown"),
]
"""What can be asked for, as the prompt says it."""

ICONS = {
    "bee": "honeybee",
    "cat": "cat-face",
    "dog": "dog-face",
    "donut": "doughnut",
    "heart": "red-heart",
    "monkey": "monkey-face",
    "pig": "pig-face",
    "rabbit": "rabbit-face",
    "whale": "spouting-whale",
}
"""Names whose icon is called something else."""

SIZE = 192
"""Side of a stored icon in pixels: larger than any object in a 128 px picture."""

Icons = dict[tuple[str, str], Image.Image]


def fetch(package: str, folder: Path) -> dict[str, Any]:
    """The icon set of an npm package, downloaded with `npm pack` unless its tarball is there."""
    scope_name, version = package.rsplit("@", 1)
    tarball = folder / f"{scope_name.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not tarball.exists():
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True)
    with tarfile.open(tarball) as archive:
        member = archive.extractfile("package/icons.json")
        assert member is not None
        icon_set: dict[str, Any] = json.load(member)
    return icon_set


def render(icon_set: dict[str, Any], key: str) -> Image.Image:
    """One icon as RGBA, SIZE px square, cropped to what is drawn so that sizes are comparable."""
    import resvg_py

    alias = icon_set.get("aliases", {}).get(key)
    icon = icon_set["icons"][alias["parent"] if alias else key]
    width, height = (icon.get(side, icon_set.get(side, 16)) for side in ("width", "height"))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" width="256" height="256">{icon["body"]}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=256, height=256))
    drawn = Image.open(io.BytesIO(png)).convert("RGBA")
    drawn = drawn.crop(drawn.getchannel("A").point(lambda a: 255 if a > 16 else 0).getbbox())
    side = max(drawn.size)
    square = Image.new("RGBA", (side, side))
    square.paste(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    return square.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def load_icons(work: Path) -> Icons:
    """(name, style) → RGBA icon; rendered on first use, read from `work/icons.npz` afterwards."""
    cache = work / "icons.npz"
    if not cache.exists():
        icons: dict[str, NDArray[np.uint8]] = {}
        for style, package in STYLES.items():
            icon_set = fetch(package, work)
            for name in NAMES:
                icon = render(icon_set, ICONS.get(name, name.replace(" ", "-")))
                icons[f"{name}|{style}"] = np.asarray(icon)
        np.savez_compressed(cache, **icons)  # type: ignore[arg-type]
    with np.load(cache) as stored:
        loaded = {key: Image.fromarray(stored[key]) for key in stored.files}
    return {(key.split("|")[0], key.split("|")[1]): icon for key, icon in loaded.items()}
