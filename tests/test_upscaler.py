"""The 2x upscaler: its shape, what it does untrained, and which weights it refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save

from core.upscaler import Upscaler, load_upscaler, upscale


def weights(upscaler: Upscaler) -> bytes:
    half = {key: value.half().contiguous() for key, value in upscaler.state_dict().items()}
    return save(half)


def test_untrained_it_is_bicubic_interpolation() -> None:
    pictures = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        made = Upscaler()(pictures)
    assert made.shape == (2, 3, 24, 40)
    assert torch.equal(made, F.interpolate(pictures, scale_factor=2, mode="bicubic"))


def test_pixels_stay_in_their_range_and_size_doubles() -> None:
    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 2, (10, 14, 3), np.uint8) * 255)
    upscaler = Upscaler(width=8, depth=2)
    torch.nn.init.constant_(upscaler.leave.bias, 0.5)
    made = upscale(upscaler, picture)
    assert made.size == (28, 20)
    brighter = np.asarray(made, int) - np.asarray(upscale(Upscaler(), picture), int)
    assert brighter.min() == 0
    assert brighter.max() in (63, 64, 65)


def test_a_flat_picture_has_no_border() -> None:
    torch.manual_seed(3)
    upscaler = Upscaler(width=8, depth=3)
    torch.nn.init.normal_(upscaler.leave.weight, std=0.3)
    made = np.asarray(upscale(upscaler, Image.new("RGB", (16, 16), (40, 160, 90))), int)
    assert all(np.ptp(made[y::2, x::2], axis=(0, 1)).max() <= 1 for y in (0, 1) for x in (0, 1))


def test_stored_weights_give_the_same_pictures_and_others_are_refused() -> None:
    torch.manual_seed(4)
    upscaler = Upscaler()
    torch.nn.init.normal_(upscaler.leave.weight, std=0.01)
    upscaler.half().float()
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 255, (8, 8, 3), np.uint8))
    stored = load_upscaler(weights(upscaler))
    assert np.array_equal(upscale(stored, picture), upscale(upscaler, picture))
    for other in (b"", weights(Upscaler(width=8)), weights(upscaler)[:-2]):
        with pytest.raises(ValueError, match="not the weights of a 2x upscaler"):
            load_upscaler(other)
