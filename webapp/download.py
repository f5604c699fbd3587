"""Files that are made for one person to download."""

from pathlib import Path

from gradio import processing_utils, utils

from webapp.services import Services


def offered(services: Services, file: Path, owner: str) -> str:
    """A copy of a file, where a button offers it: Gradio gives it to anybody who knows its name,
    and with accounts it is the owner's alone. The file itself may go then."""
    copy: str = processing_utils.save_file_to_cache(file, utils.get_upload_folder())
    services.give(Path(copy), owner)
    return copy
