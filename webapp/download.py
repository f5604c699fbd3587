"""Files that are made for one person to download."""

from pathlib import Path

import gradio as gr

from webapp.services import Services


def offered(services: Services, file: Path, owner: str) -> str:
    """The copy of a file that a button offers: Gradio makes one, and gives it to anybody who knows
    its name; with accounts it is the owner's alone."""
    copy = str(gr.DownloadButton(value=str(file)).value["path"])
    services.give(Path(copy), owner)
    return copy
