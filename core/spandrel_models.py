"""Upscalers of other makers, through the package spandrel, which knows their architectures.

spandrel imports torchvision; Seedproof needs neither and installs neither, so both are looked for
only here and only when asked. Only safetensors are read, as with models: a pickle can run code.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load as tensors

from core.platforms import one_sentence

LARGEST_FACTOR = 8


def probe(device: torch.device, dtype: torch.dtype) -> None:
    """Raises RuntimeError, one sentence, where spandrel cannot be imported."""
    _package()


def load(weights: bytes, device: torch.device) -> tuple[int, Callable[[Image.Image], Image.Image]]:
    """How many times a network enlarges, and what enlarges an RGB picture by it, in float32.

    `weights` are a safetensors file's bytes. Raises RuntimeError where there is no spandrel, and
    ValueError where these are not the weights of an upscaler for RGB pictures.
    """
    package = _package()
    try:
        # Architectures draw numbers for weights that are replaced at once.
        with torch.random.fork_rng(devices=[]):
            network = package.ModelLoader(device).load_from_state_dict(tensors(weights))
    # Weights of no known kind fail anywhere: in the file, in spandrel, in an architecture.
    except Exception as error:
        raise ValueError(
            f"These are not the weights of an upscaler that spandrel knows ({one_sentence(error)}):"
            " take another file."
        ) from error
    colours = (getattr(network, "input_channels", 0), getattr(network, "output_channels", 0))
    factor = getattr(network, "scale", 0)
    if colours != (3, 3) or not isinstance(factor, int) or not 2 <= factor <= LARGEST_FACTOR:
        raise ValueError(
            "This network does not enlarge RGB pictures by a whole number from 2 to "
            f"{LARGEST_FACTOR}: take another file."
        )
    return factor, partial(_larger, network.float().eval(), device)


def _larger(network: Any, device: torch.device, picture: Image.Image) -> Image.Image:
    """spandrel's descriptors take and give (1, 3, height, width) in 0…1."""
    pixels = torch.from_numpy(np.array(picture.convert("RGB"))).to(device)
    with torch.inference_mode():
        larger = network(pixels.permute(2, 0, 1)[None].float() / 255)[0]
    levels = (larger * 255).round().clamp(0, 255).to("cpu", torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).numpy())


def _package() -> Any:
    try:
        return import_module("spandrel")
    except ImportError as error:
        raise RuntimeError(
            f"needs the package spandrel and torchvision, which it imports ({one_sentence(error)})"
        ) from error
