"""The pictures of one page, each embedded once however often it is shown."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from audit.metrics import Rgb
from audit.pictures import LoadPicture, data_uri, difference_map


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture's name in the page and its size in pixels."""

    id: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Two pictures and their difference × 8; None where a file is gone or was never kept."""

    first: Shown | None
    second: Shown | None
    difference: Shown | None


class Album:
    """Collects pictures while a page is laid out; `sources` are what the page has to embed."""

    def __init__(self, load: LoadPicture) -> None:
        self._load = load
        self._arrays: dict[Path, Rgb | None] = {}
        self.sources: dict[str, tuple[Shown, str]] = {}

    def strip(self, first: Path | None, second: Path | None) -> Strip:
        a, b = self._read(first), self._read(second)
        apart = None
        if a is not None and b is not None and a.shape == b.shape:
            apart = self._show(difference_map(a, b))
        return Strip(first=self._show(a), second=self._show(b), difference=apart)

    def _read(self, path: Path | None) -> Rgb | None:
        if path is None:
            return None
        if path not in self._arrays:
            try:
                self._arrays[path] = self._load(path)
            except OSError:
                self._arrays[path] = None
        return self._arrays[path]

    def _show(self, array: Rgb | None) -> Shown | None:
        if array is None:
            return None
        height, width = array.shape[:2]
        digest = hashlib.sha256(f"{width}x{height}".encode() + array.tobytes()).hexdigest()
        if digest not in self.sources:
            shown = Shown(id=f"p{len(self.sources)}", width=width, height=height)
            self.sources[digest] = (shown, data_uri(array))
        return self.sources[digest][0]
