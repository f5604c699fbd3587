"""Noise: float32 from one generator per picture, so that neighbours don't matter."""

import hashlib
import math
from collections.abc import Sequence
from typing import get_args

import torch

from core.philox import PhiloxGenerator
from core.request import NoiseSource

SOURCES: tuple[NoiseSource, ...] = get_args(NoiseSource)

_PARALLEL = 0.9995
"""Above this mean cosine there is no arc to go along."""

Generator = torch.Generator | PhiloxGenerator


def source(name: str) -> NoiseSource:
    """The noise source of that name, in any case. Raises ValueError that lists the names."""
    for known in SOURCES:
        if name.strip().lower() == known.lower():
            return known
    raise ValueError(f"Unknown noise source {name!r}: choose one of {', '.join(SOURCES)}.")


def generators(
    seeds: Sequence[int], source: NoiseSource = "CPU", device: torch.device | None = None
) -> list[Generator]:
    """A generator per picture, as diffusers uses them when it is given a list.

    `device` are numbers of a CUDA device itself; where the device is another one, they are the
    CPU's. `NV` are what a CUDA device would draw, computed on the CPU (`core.philox`).
    """
    if source == "NV":
        return [PhiloxGenerator(seed) for seed in seeds]
    place = device if source == "device" and draws_itself(device) else torch.device("cpu")
    return [torch.Generator(place).manual_seed(seed) for seed in seeds]


def draws_itself(device: torch.device | None) -> bool:
    """Whether a device has random numbers of its own. As in A1111, a Mac's GPU takes the CPU's."""
    return device is not None and device.type == "cuda"


def normal(generator: Generator, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal noise, float32 on the CPU."""
    if isinstance(generator, PhiloxGenerator):
        return torch.from_numpy(generator.normal(math.prod(shape)).reshape(shape))
    return torch.randn(shape, generator=generator, device=generator.device).cpu()


def initial_noise(generators: Sequence[Generator], shape: tuple[int, int, int]) -> torch.Tensor:
    """Standard normal noise, float32 on the CPU, (len(generators), *shape).

    Each picture has a generator of its own; the same seed therefore starts from the same noise in
    any batch. Across instruction sets the same seed is *not* bit-equal, so its digest is recorded.
    """
    return torch.cat([normal(generator, (1, *shape)) for generator in generators])


def between(noise: torch.Tensor, other: torch.Tensor, strength: float) -> torch.Tensor:
    """A1111's variation: the part `strength` of the way from one noise to another, both
    (channels, height, width), on the arc between the columns of each channel.

    Spherical interpolation keeps the size of the numbers, which a straight line would shrink.
    """
    cosine = noise / noise.norm(dim=1, keepdim=True) * (other / other.norm(dim=1, keepdim=True))
    cosine = cosine.sum(1, keepdim=True)
    if cosine.mean() > _PARALLEL:
        return noise * (1 - strength) + other * strength
    angle = torch.acos(cosine)
    near, far = torch.sin((1 - strength) * angle), torch.sin(strength * angle)
    return near / torch.sin(angle) * noise + far / torch.sin(angle) * other


def second_seed(seed: int) -> int:
    """For what is added before a second pass: it follows from the picture's seed, without
    repeating the numbers of the initial noise."""
    digest = hashlib.sha256(f"second pass {seed}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def nudge(latents: torch.Tensor, index: int) -> torch.Tensor:
    """The same latents with one element of every picture moved up by one ULP of their dtype."""
    moved = latents.clone()
    flat = moved.flatten(1)
    if not 0 <= index < flat.shape[1]:
        raise ValueError(f"nudge must be between 0 and {flat.shape[1] - 1}, not {index}")
    flat[:, index] = torch.nextafter(flat[:, index], torch.full_like(flat[:, index], torch.inf))
    return moved


def digest(tensor: torch.Tensor) -> str:
    """SHA-256 over the raw bytes of a tensor, in its own dtype."""
    return hashlib.sha256(raw_bytes(tensor)).hexdigest()


def raw_bytes(tensor: torch.Tensor) -> bytes:
    """The bytes as they lie in memory; numpy has no bfloat16, so they are viewed as integers."""
    return tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
