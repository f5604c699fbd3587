"""Picture files as arrays, and arrays as something a page can show."""

import base64
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from audit.metrics import Rgb
from core.run import Picture

LoadPicture = Callable[[Path], Rgb]
"""How an audit reads picture files; raises OSError where there is none."""

LOSSLESS_UP_TO = 256
"""Pixels on the longer side. Larger pictures are shown as WebP, or a page grows to 100 MB; figures
always come from the originals."""
GAIN = 8
"""How much differences are amplified to be seen."""


def load_picture(path: Path) -> Rgb:
    """Decode a picture file to RGB."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def pixels(picture: Picture, load: LoadPicture) -> Rgb:
    """The pixels of one picture of a run, or ValueError where the file is not that picture."""
    if picture.path is None:
        raise FileNotFoundError("the run kept no picture file")
    array = load(picture.path)
    if hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() != picture.pixels_sha256:
        raise ValueError(f"{picture.path.name} does not hold the pixels that the run recorded")
    return array


def difference_map(a: Rgb, b: Rgb) -> Rgb:
    """Absolute difference of each channel × 8: black where equal, white from 32 levels on."""
    apart = np.abs(a.astype(np.int16) - b.astype(np.int16)) * GAIN
    return np.asarray(apart.clip(0, 255), dtype=np.uint8)


def data_uri(array: Rgb) -> str:
    """The picture itself as a URI: no file beside the page and no metadata inside it."""
    image, buffer = Image.fromarray(array), io.BytesIO()
    if max(array.shape[:2]) <= LOSSLESS_UP_TO:
        kind = "png"
        image.save(buffer, "PNG", optimize=True)
    else:
        kind = "webp"
        image.save(buffer, "WEBP", quality=90)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
