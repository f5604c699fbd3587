"""A picture as a file: named by its own SHA-256, whole or not there, with its receipt inside."""

import hashlib
import html
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from core.infotext import KEY

Format = Literal["PNG", "JPEG", "WEBP"]

FORMATS: dict[str, Format] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""By the end of a file's name. PNG and our WebP are lossless, JPEG never is."""
MOST_BYTES = 64 * 10**6
"""Of a picture file that is read."""
MOST_PIXELS = 2**24
RECEIPT = "seedproof"
"""What our receipt is called in a PNG."""

FOREIGN = ("prompt", "workflow", "invokeai_metadata", "sd-metadata", "Dream")
"""What ComfyUI and InvokeAI call theirs in a PNG."""

_ONE_AT_A_TIME = threading.Lock()
_JPEG_QUALITY = 95
_USER_COMMENT = 0x9286
_UNICODE = b"UNICODE\0"
"""How an Exif comment begins that goes on in UTF-16; big-endian, as AUTOMATIC1111 writes it."""
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:seedproof="urn:seedproof:receipt">'
    "<seedproof:receipt>{}</seedproof:receipt>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
_IN_XMP = re.compile(rb"<seedproof:receipt>([^<]*)</seedproof:receipt>")


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What is written into a picture; empty where there is none."""

    infotext: str = ""
    """AUTOMATIC1111's."""
    receipt: str = ""
    """Ours, as `core.receipt.dump` gives it: ASCII."""
    foreign: Mapping[str, str] = field(default_factory=dict)
    """Other programs' own texts in a PNG that was read, by their names there; never written."""


@dataclass(frozen=True, kw_only=True)
class PictureFile:
    """What a picture file holds."""

    pixels: NDArray[np.uint8]
    """RGB, (height, width, 3)."""
    texts: Texts
    format: Format
    lossless: bool
    """False where the format has changed pixels when it was written."""

    @property
    def pixels_sha256(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.pixels).tobytes()).hexdigest()


def save(image: Image.Image, folder: Path, texts: Texts) -> Path:
    """Write a PNG named by its own SHA-256; a file is whole or not there."""
    data = encoded(image, "PNG", texts)
    path = folder / f"{hashlib.sha256(data).hexdigest()}.png"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part")
        partial.write_bytes(data)
        partial.replace(path)
    return path


def encoded(image: Image.Image, format: Format, texts: Texts) -> bytes:
    """The file's bytes, the texts in the places where other programs look for them.

    PNG: text chunks. JPEG and WebP: the infotext as Exif UserComment, our receipt as XMP. Raises
    ValueError where a JPEG has no room for them: its segments end at 65,533 bytes.
    """
    buffer = io.BytesIO()
    if format == "PNG":
        chunks = PngInfo()
        for key, text in ((KEY, texts.infotext), (RECEIPT, texts.receipt)):
            if text:
                chunks.add_text(key, text)
        image.save(buffer, format="PNG", pnginfo=chunks)
        return buffer.getvalue()
    exif = Image.Exif()
    comment = _UNICODE + texts.infotext.encode("utf-16-be")
    exif.get_ifd(ExifTags.IFD.Exif)[_USER_COMMENT] = comment
    xmp = _XMP.format(html.escape(texts.receipt, quote=False)).encode("ascii")
    options: dict[str, Any] = {"lossless": True}
    if format == "JPEG":
        options = {"quality": _JPEG_QUALITY, "subsampling": 0}
    try:
        image.save(buffer, format=format, exif=exif.tobytes(), xmp=xmp, **options)
    except ValueError as error:
        raise ValueError(
            f"The receipt is too long for a {format} file ({error}): save a PNG."
        ) from error
    return buffer.getvalue()


def copy(source: Path, target: Path) -> None:
    """The picture again, in the format that the target's name asks for, with the same texts."""
    if FORMATS[target.suffix.lower()] == "PNG":
        target.write_bytes(source.read_bytes())
        return
    picture = read(source)
    image = Image.fromarray(picture.pixels)
    target.write_bytes(encoded(image, FORMATS[target.suffix.lower()], picture.texts))


def read(path: Path) -> PictureFile:
    """Open anybody's picture. Raises ValueError with one sentence where that cannot be done."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror}.") from error
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path.name} has more than the {MOST_BYTES:,} bytes that are read.")
    return opened(data, path.name)


def opened(data: bytes, name: str) -> PictureFile:
    """The same from a file's bytes; `name` is what it is called in the sentence."""
    # A small file can unfold to a large picture: many at once would add up. Filters of warnings
    # are the whole process's too.
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return _read(data, name)
        except _TooLarge as error:
            raise ValueError(str(error)) from error
        # Damaged files fail anywhere in a decoder, with whatever it stumbles over.
        except Exception as error:
            raise ValueError(
                f"{name} is not a whole PNG, JPEG or WebP picture, or is too large."
            ) from error


class _TooLarge(Exception):
    """The text is for people."""


def _read(data: bytes, name: str) -> PictureFile:
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
        if image.width * image.height > MOST_PIXELS:
            raise _TooLarge(
                f"{name} has {image.width} × {image.height} pixels; at most {MOST_PIXELS:,} are "
                "read."
            )
        image.load()
        pixels = np.asarray(image.convert("RGB"))
        format: Format = image.format  # type: ignore[assignment]
        return PictureFile(
            pixels=pixels,
            texts=_texts(image),
            format=format,
            lossless=format == "PNG" or (format == "WEBP" and _lossless_webp(data)),
        )


def _texts(image: Image.Image) -> Texts:
    if image.format == "PNG":
        # Asked after loading: chunks may follow the pixels.
        found = getattr(image, "text", {})
        return Texts(
            infotext=str(found.get(KEY, "")),
            receipt=str(found.get(RECEIPT, "")),
            foreign={key: str(found[key]) for key in FOREIGN if key in found},
        )
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(_USER_COMMENT, b"")
    infotext = ""
    if isinstance(comment, bytes) and comment.startswith(_UNICODE):
        infotext = comment.removeprefix(_UNICODE).decode("utf-16-be", "replace")
    ours = _IN_XMP.search(image.info.get("xmp", b""))
    receipt = html.unescape(ours[1].decode("ascii", "replace")) if ours else ""
    return Texts(infotext=infotext, receipt=receipt)


def _lossless_webp(data: bytes) -> bool:
    """Whether every picture in it is coded without loss, by the names of its chunks."""
    names = set(_chunks(data))
    return b"VP8L" in names and not names & {b"VP8 ", b"ANMF"}


def _chunks(data: bytes) -> Iterator[bytes]:
    """Names of the chunks of a RIFF file, each followed by its length and padded to even."""
    place = 12
    while place + 8 <= len(data):
        yield data[place : place + 4]
        length = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + length + length % 2
