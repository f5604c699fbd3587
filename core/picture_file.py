"""A picture as a file: named by its own SHA-256, whole or not there."""

import hashlib
import io
import os
from pathlib import Path

from PIL import Image


def save(image: Image.Image, folder: Path) -> Path:
    """Write a PNG named by its own SHA-256; a file is whole or not there."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    data = buffer.getvalue()
    path = folder / f"{hashlib.sha256(data).hexdigest()}.png"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part")
        partial.write_bytes(data)
        partial.replace(path)
    return path
