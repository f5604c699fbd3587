"""Small copies of large pictures, made when one is first listed."""

import os
from pathlib import Path

from PIL import Image

LONGEST = 256
"""Pixels of a thumbnail's longer side; a picture that is no larger is its own."""
_FOLDER, _QUALITY = "thumbnails", 85


def place(picture: Path) -> Path:
    """Where a picture's thumbnail lies, if one was made."""
    return picture.parent / _FOLDER / f"{picture.name}.webp"


def shown_by(file: Path) -> Path:
    """The picture that a file shows: the one that it is a thumbnail of, or itself."""
    if file.parent.name != _FOLDER or file.suffix != ".webp":
        return file
    return file.parent.parent / file.stem


def of(picture: Path, width: int, height: int) -> Path:
    """The file to show in a list, for a picture of this size; made where it is not there yet.

    Without the picture's texts: a thumbnail is only looked at. Raises OSError.
    """
    if max(width, height) <= LONGEST:
        return picture
    target = place(picture)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(picture) as image:
            image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
            partial = target.with_suffix(f".{os.getpid()}.part")
            image.convert("RGB").save(partial, "WEBP", quality=_QUALITY)
        partial.replace(target)
    return target
