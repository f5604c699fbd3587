"""What a picture will look like, while it is still being denoised."""

import io
from typing import Any

import torch
from PIL import Image
from torch.nn import functional as F


class Preview:
    """Small pictures of the denoised estimate, by a linear map from latents to colours.

    The map is fitted to the model at hand, by least squares on one real decoding of the first
    estimate it is asked for; it costs that decoding once per pipeline and next to nothing later.
    Previews only look: they never change what is computed.
    """

    def __init__(self) -> None:
        self._factors: torch.Tensor | None = None

    def png(self, vae: Any, estimate: torch.Tensor) -> bytes:
        """A PNG at the latents' own size of the first picture of (pictures, 4, height, width)."""
        latents = estimate[:1]
        if self._factors is None:
            self._factors = _fit(vae, latents)
        colours = _columns(latents) @ self._factors
        height, width = latents.shape[2:]
        levels = colours.clamp(0, 1).mul(255).round().to(torch.uint8)
        buffer = io.BytesIO()
        Image.fromarray(levels.view(height, width, 3).numpy()).save(buffer, format="PNG")
        return buffer.getvalue()


def _fit(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """(5, 3): what each latent channel and a constant add to red, green and blue in 0..1."""
    # A scheduler may give its estimate in float32 beside half-precision weights.
    scaled = latents.to(vae.dtype) / vae.config.scaling_factor
    decoded = vae.decode(scaled, return_dict=False)[0]
    height, width = latents.shape[2:]
    # In half precision the noise of an early estimate may overflow where the picture will not.
    small = F.adaptive_avg_pool2d(decoded.float(), (height, width)).nan_to_num()
    target = (small / 2 + 0.5).clamp(0, 1)[0].flatten(1).T.cpu()
    factors: torch.Tensor = torch.linalg.lstsq(_columns(latents), target).solution
    return factors


def _columns(latents: torch.Tensor) -> torch.Tensor:
    """(height * width, 5): the latents by pixel, and a one, on the CPU."""
    pixels = latents[0].float().flatten(1).T.cpu()
    return torch.cat([pixels, torch.ones(len(pixels), 1)], dim=1)
