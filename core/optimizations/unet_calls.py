"""Looks at what the denoising loop really hands to the UNet, and what the VAE decodes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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


@contextmanager
def watching_first_layers(
    pipeline: "StableDiffusionPipeline", see: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    """Call `see` inside every call of the UNet and of the VAE's decoder, with `unet` or `vae` and
    what their first convolution is given, (rows, channels, height, width)."""
    with ExitStack() as handles:
        for part, layer in (
            ("unet", pipeline.unet.conv_in),
            ("vae", pipeline.vae.decoder.conv_in),
        ):

            def before(module: Any, args: tuple[Any, ...], part: str = part) -> None:
                see(part, args[0])

            handles.callback(layer.register_forward_pre_hook(before).remove)
        yield
