"""The memory-format slot: how the numbers of an image tensor follow each other in memory."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from core.optimization import Optimization, Slot
from core.record import Record
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether (rows, channels, height, width) has its channels next to each other, and could have
    had them otherwise."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _prepare(pipeline: "StableDiffusionPipeline", parameter: float | None) -> None:
    """Convolutions take their weights' format, and give it to what they compute."""
    for model in (pipeline.unet, pipeline.vae):
        model.to(memory_format=torch.channels_last)


@contextmanager
def _patched(
    pipeline: "StableDiffusionPipeline", job: Job, parameter: float | None, record: Record
) -> Iterator[None]:
    """Changes nothing, preparing did: looks at the strides of what residual blocks give."""
    from diffusers.models.resnet import ResnetBlock2D

    notes = record.slot("memory-format", job.configuration.get("memory-format"))
    with ExitStack() as handles:
        for part, model in (("unet", pipeline.unet), ("vae", pipeline.vae.decoder)):

            def after(module: Any, args: Any, output: torch.Tensor, part: str = part) -> None:
                order = "channels_last" if is_channels_last(output) else "otherwise"
                notes.counts[f"{part}_blocks_{order}"] += 1

            for block in model.modules():
                if isinstance(block, ResnetBlock2D):
                    handles.callback(block.register_forward_hook(after).remove)
        try:
            yield
        finally:
            otherwise = sum(n for name, n in notes.counts.items() if name.endswith("otherwise"))
            calls = notes.counts.total()
            if not calls:
                notes.conclude("none", "no residual block ran")
            elif otherwise:
                notes.conclude(
                    "fell-back",
                    f"{otherwise} of {calls} outputs of residual blocks were in another format",
                )
            else:
                notes.conclude("applied")


CHANNELS_LAST = Optimization(
    slot="memory-format",
    name="channels-last",
    summary="Convolutions find the channels of a pixel next to each other.",
    changes="Rounding.",
    prepare=_prepare,
    patch=_patched,
)

MEMORY_FORMAT = Slot(name="memory-format", label="Memory format", options=(CHANNELS_LAST,))
