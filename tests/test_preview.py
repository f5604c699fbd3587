"""A preview finds the model's own colours, from one decoding."""

import io
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from core.preview import Preview

SCALE = 0.5


class LinearVae:
    """A decoder that really is a linear map, four pixels to a latent."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.config = SimpleNamespace(scaling_factor=SCALE)
        self.map = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)) * 0.1
        self.decodings = 0

    def decode(self, latents: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        self.decodings += 1
        assert latents.dtype == self.dtype, "a half-precision VAE takes half-precision latents"
        latents = latents.float()
        colours = torch.einsum("ck,bkhw->bchw", self.map, latents) + 0.1
        return (F.interpolate(colours, scale_factor=4.0, mode="nearest"),)


def test_a_linear_decoder_is_met_within_a_level_after_one_decoding() -> None:
    vae, preview = LinearVae(), Preview()
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        latents = torch.randn(2, 4, 6, 5, generator=generator)
        with Image.open(io.BytesIO(preview.png(vae, latents))) as image:
            shown = np.asarray(image).astype(float)
        truth = torch.einsum("ck,khw->hwc", vae.map, latents[0] / SCALE) + 0.1
        levels = ((truth / 2 + 0.5).clamp(0, 1) * 255).numpy()
        assert shown.shape == (6, 5, 3)
        assert np.abs(shown - levels).max() <= 1
    assert vae.decodings == 1


def test_a_float32_estimate_reaches_half_precision_weights_in_theirs() -> None:
    vae = LinearVae(torch.float16)
    Preview().png(vae, torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(2)))
    assert vae.decodings == 1
