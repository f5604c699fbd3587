"""What is done to several pictures of the history at once."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from core.store import Store
from webapp import picture_zip
from webapp.download import offered
from webapp.services import Services


def changed(store: Store, what: str, runs: Sequence[str], tag: str, owner: str) -> str:
    """Tag or delete an owner's runs, and say so; raises ValueError with a sentence."""
    if what == "tag":
        return f"{_pictures(store.change_tags(runs, owner, add=tag))} tagged."
    if what == "delete":
        return f"{_pictures(store.delete_generations(runs, owner))} deleted."
    return ""


def download(services: Services, runs: Sequence[str], owner: str) -> gr.DownloadButton:
    """A button with one file of them all; raises ValueError where they are too many."""
    if len(runs) > picture_zip.MOST_PICTURES:
        raise ValueError(
            f"One download takes at most {picture_zip.MOST_PICTURES} pictures, not "
            f"{len(runs):,}: choose fewer."
        )
    found = services.store.runs_of(runs, owner).values()
    with tempfile.TemporaryDirectory(dir=services.reports) as folder:
        target = Path(folder) / "pictures.zip"
        count = picture_zip.write_zip(found, target)
        megabytes = target.stat().st_size / 1e6
        copy = offered(services, target, owner)
    size = f"{megabytes:.1f} MB" if megabytes >= 1 else f"{1000 * megabytes:.0f} kB"
    return gr.DownloadButton(f"Save {_pictures(count)} ({size})", value=copy, visible=True)


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"
