"""The settings that a picture carries, taken over: from our receipt, or another
program's words."""

from dataclasses import replace

from core.foreign_metadata import read_metadata, wrote
from core.picture_file import PictureFile
from core.receipt import load
from core.request import Model
from core.takeover import Remark, Taken, other_model


def take_over(file: PictureFile, name: str, model: Model) -> Taken:
    """The settings of a picture, for a model of this machine; `name` is the file's.

    From our own receipt everything comes back but the batch and the machine. Raises ValueError
    with one sentence where the picture carries none.
    """
    if file.texts.receipt:
        return _from_receipt(file.texts.receipt, model)
    if wrote(file.texts):
        return read_metadata(file.texts, model)
    raise ValueError(
        f"{name} carries no settings: neither a receipt of Seedproof nor what AUTOMATIC1111, "
        "Forge, SD.Next, ComfyUI, InvokeAI or Fooocus write; diffusers writes nothing."
    )


def _from_receipt(text: str, model: Model) -> Taken:
    receipt = load(text)
    remarks = []
    if receipt.request.model.digest != model.digest:
        remarks.append(other_model(receipt.request.model.name, model))
    if (together := len(receipt.requests)) > 1:
        remarks.append(
            Remark(
                key="Batch",
                value=f"picture {receipt.position + 1} of {together}",
                sentence="alone its last bits may be others; to verify makes the whole batch",
            )
        )
    return Taken(
        request=replace(receipt.request, model=model),
        settings=receipt.configuration.as_dict(),
        remarks=tuple(remarks),
        program=receipt.program,
    )
