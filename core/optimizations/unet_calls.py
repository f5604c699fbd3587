"""Looks at what the denoising loop really hands to the UNet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


@contextmanager
def watching_unet(
    pipeline: "StableDiffusionPipeline", see: Callable[[torch.Tensor], None]
) -> Iterator[None]:
    """Call `see` with the sample, (rows, channels, height, width), before every UNet call."""

    def before(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        see(args[0] if args else kwargs["sample"])

    handle = pipeline.unet.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
