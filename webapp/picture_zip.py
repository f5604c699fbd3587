"""Several pictures in one file, as they are: each carries its receipt."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

from core.run import Run

MOST_PICTURES = 500
MOST_BYTES = 10**9


def write_zip(runs: Iterable[Run], target: Path) -> int:
    """How many pictures were written; those whose files are gone are left out.

    Raises ValueError with a sentence where it would be too large, or empty.
    """
    files: dict[str, Path] = {}
    for run in runs:
        for picture in run.pictures:
            if picture.path is not None and picture.path.is_file():
                # By the file and not by its pixels: equal pictures may have other receipts.
                name = f"{picture.request.seed}-{picture.path.stem[:16]}"
                files[f"{name}{picture.path.suffix}"] = picture.path
    if not files:
        raise ValueError("None of these pictures has a file any more.")
    if len(files) > MOST_PICTURES:
        raise ValueError(f"One download takes at most {MOST_PICTURES} pictures: choose fewer.")
    size = sum(path.stat().st_size for path in files.values())
    if size > MOST_BYTES:
        raise ValueError(
            f"These are {size / 1e9:.1f} GB; one download takes at most {MOST_BYTES / 1e9:g} GB: "
            "choose fewer."
        )
    # Pictures are compressed already: storing them is quicker and no larger.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files.items():
            archive.write(path, name)
    return len(files)
