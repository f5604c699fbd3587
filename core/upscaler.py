"""Pictures twice as large: bicubic interpolation, and what a small network adds to it."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

WIDTH, DEPTH = 48, 6


class Upscaler(nn.Module):
    """RGB (n, 3, height, width) in −1…1 → (n, 3, 2 height, 2 width), not clamped.

    The correction is computed at the small size and rearranged into pixels at the end (Shi et al.,
    "Real-time single image and video super-resolution using an efficient sub-pixel convolutional
    neural network", CVPR 2016). Untrained it adds nothing. Borders are continued, because zero is
    a colour: middle grey.
    """

    def __init__(self, width: int = WIDTH, depth: int = DEPTH) -> None:
        super().__init__()
        self.enter = _convolution(3, width)
        self.middle = nn.ModuleList(_convolution(width, width) for _ in range(depth - 1))
        self.leave = _convolution(width, 3 * 2 * 2)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.silu(self.enter(pictures))
        for convolution in self.middle:
            x = x + F.silu(convolution(x))
        larger = F.interpolate(pictures, scale_factor=2, mode="bicubic")
        return larger + F.pixel_shuffle(self.leave(x), 2)


def load_upscaler(weights: bytes) -> Upscaler:
    """The network with the weights of a safetensors file's bytes, computing in float32.

    Raises ValueError, one sentence, where they are not this network's.
    """
    # On no device, so that nothing is drawn for weights that are replaced at once.
    with torch.device("meta"):
        upscaler = Upscaler()
    try:
        upscaler.load_state_dict(load(weights), assign=True)
    except (RuntimeError, SafetensorError) as error:
        raise ValueError("these are not the weights of a 2x upscaler of this version") from error
    return upscaler.float().eval()


def upscale(upscaler: Upscaler, picture: Image.Image) -> Image.Image:
    """An RGB picture of twice the width and height, rounded to 255 levels; computed in float32
    where the network lies."""
    pixels = torch.from_numpy(np.array(picture.convert("RGB"))).to(upscaler.enter.weight.device)
    with torch.inference_mode():
        larger = upscaler(pixels.permute(2, 0, 1)[None].float() / 127.5 - 1)[0]
    levels = ((larger + 1) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).numpy())


def _convolution(inside: int, outside: int) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, padding=1, padding_mode="replicate")
