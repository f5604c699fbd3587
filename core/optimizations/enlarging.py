"""How the first of two passes becomes the beginning of the second: its latents, its pixels, or a
network that knows pictures.

What goes through pixels is decoded, enlarged picture by picture so that neighbours don't matter,
and encoded again; the encoder's mean is taken, so that nothing is drawn. A network that makes
pictures larger by a whole factor is called until they cover the size that is wanted; what is too
much is taken away by Lanczos, as A1111 does it (its v1.10.1, `upscaler.py`).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageOps
from torch.nn import functional as F

from core import spandrel_models
from core.finite import require_finite
from core.upscaler import load_upscaler, upscale

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

Size = tuple[int, int]
"""Width and height in pixels."""
SHIPPED = Path("upscaler") / "model.safetensors"
"""The 2x upscaler of a model, in its folder."""
FOREIGN = Path("upscaler") / "spandrel.safetensors"
"""An upscaler of any architecture that spandrel knows, put there by whoever wants it."""


class Network:
    """A network that makes pictures larger; it counts its calls."""

    def __init__(
        self, weights: bytes, factor: int, larger: Callable[[Image.Image], Image.Image]
    ) -> None:
        self.sha256 = hashlib.sha256(weights).hexdigest()
        """Of its weights' file."""
        self.factor = factor
        self.calls = 0
        self._larger = larger

    def __call__(self, picture: Image.Image) -> Image.Image:
        """An RGB picture whose sides are `factor` times as long. Raises ValueError where the
        network gives another size."""
        larger = self._larger(picture)
        expected = (picture.width * self.factor, picture.height * self.factor)
        if larger.size != expected:
            raise ValueError(
                f"The upscaler made {larger.width}x{larger.height} pixels of {picture.width}x"
                f"{picture.height}, and says that it enlarges {self.factor} times: take another."
            )
        self.calls += 1
        return larger


@dataclass(frozen=True, kw_only=True)
class Upscaler:
    """One way from the first pass to the second."""

    name: str
    summary: str
    changes: str
    infotext: str
    """What it is called as A1111's `Hires upscaler`; theirs where they have the same."""
    enlarge: Callable[["StableDiffusionPipeline", torch.Tensor, Size, Network | None], torch.Tensor]
    """Final latents of the first pass, (pictures, channels, height/f, width/f), to latents of the
    same kind for pictures of this size."""
    network: Callable[[Path, torch.device], Network] | None = None
    """Loads what enlarges from a model's folder. Raises ValueError with one sentence."""
    lacks: Callable[[Path], str | None] | None = None
    """Why a model's folder has nothing to load, or None where it has."""
    probe: Callable[[torch.device, torch.dtype], None] | None = None


def _interpolated(
    mode: str,
    pipeline: "StableDiffusionPipeline",
    latents: torch.Tensor,
    size: Size,
    network: Network | None,
) -> torch.Tensor:
    """The latents themselves as if they were an image, as A1111's `Latent` does; what is too long
    is cut off evenly at both ends."""
    factor = pipeline.vae_scale_factor
    width, height = size[0] // factor, size[1] // factor
    scale = max(height / latents.shape[2], width / latents.shape[3])
    covering = [
        max(side, round(short * scale))
        for side, short in zip((height, width), latents.shape[2:], strict=True)
    ]
    larger = F.interpolate(latents, size=covering, mode=mode)
    top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
    return larger[..., top : top + height, left : left + width].contiguous()


def _through_pixels(
    pipeline: "StableDiffusionPipeline",
    latents: torch.Tensor,
    size: Size,
    network: Network | None,
) -> torch.Tensor:
    vae: Any = pipeline.vae
    decoded = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
    require_finite(decoded, "The decoded first pass")
    images = pipeline.image_processor.postprocess(decoded, output_type="pil")
    larger = [fitted(image, size, network) for image in images]
    pixels = pipeline.image_processor.preprocess(larger).to(latents.device, latents.dtype)
    encoded: torch.Tensor = vae.encode(pixels, return_dict=False)[0].mode()
    require_finite(encoded, "The enlarged picture, encoded,")
    scaled: torch.Tensor = encoded * vae.config.scaling_factor
    return scaled


def fitted(picture: Image.Image, size: Size, network: Network | None) -> Image.Image:
    """A picture of that size, by the network as far as it goes, by Lanczos for the rest; what is
    too long is cut off evenly at both ends."""
    while network is not None and (picture.width < size[0] or picture.height < size[1]):
        picture = network(picture)
    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)


def _shipped(folder: Path, device: torch.device) -> Network:
    """In float32 whatever the pipeline's precision: it is small, and its weights are the only
    thing that is kept in half precision."""
    weights = _weights(folder / SHIPPED, _ships_none(folder))
    return Network(weights, 2, partial(upscale, load_upscaler(weights).to(device)))


def _ships_none(folder: Path) -> str | None:
    return None if (folder / SHIPPED).is_file() else "this model ships no upscaler"


def _spandrel(folder: Path, device: torch.device) -> Network:
    weights = _weights(folder / FOREIGN, _no_foreign(folder))
    factor, larger = spandrel_models.load(weights, device)
    return Network(weights, factor, larger)


def _no_foreign(folder: Path) -> str | None:
    if (folder / FOREIGN).is_file():
        return None
    return f"there is no {FOREIGN.as_posix()} in this model's folder"


def _weights(file: Path, missing: str | None) -> bytes:
    if missing:
        raise ValueError(f"Not available: {missing}. Choose another way to enlarge.")
    return file.read_bytes()


UPSCALERS: tuple[Upscaler, ...] = (
    Upscaler(
        name="latent",
        summary="Starts at the model's own size, enlarges the latents bilinearly, and refines.",
        changes="The picture: it is another one, composed at the model's own size; soft where the "
        "strength is small.",
        infotext="Latent",
        enlarge=partial(_interpolated, "bilinear"),
    ),
    Upscaler(
        name="latent-nearest",
        summary="The same, and every latent is repeated instead of blended with its neighbours.",
        changes="As latent; blocky where the strength is small.",
        infotext="Latent (nearest)",
        enlarge=partial(_interpolated, "nearest"),
    ),
    Upscaler(
        name="lanczos",
        summary="The same, and pixels are enlarged: decoded, Lanczos, encoded.",
        changes="As latent, with the first pass better kept; the VAE runs two more times.",
        infotext="Lanczos",
        enlarge=_through_pixels,
    ),
    Upscaler(
        name="shipped-2x",
        summary="As lanczos, and pixels are enlarged by the 2x upscaler that the model ships.",
        changes="As lanczos, and the network runs once for each doubling of each picture.",
        infotext="Seedproof 2x",
        enlarge=_through_pixels,
        network=_shipped,
        lacks=_ships_none,
    ),
    Upscaler(
        name="spandrel",
        summary="As lanczos, and pixels are enlarged by an upscaler of yours that the package "
        f"spandrel can load: {FOREIGN.as_posix()} in the model's folder.",
        changes="As lanczos, and the network runs for each enlargement of each picture.",
        infotext="spandrel",
        enlarge=_through_pixels,
        network=_spandrel,
        lacks=_no_foreign,
        probe=spandrel_models.probe,
    ),
)
