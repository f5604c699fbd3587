"""Noise: float32 from one CPU generator per picture, so that neighbours don't matter."""

import hashlib
from collections.abc import Sequence

import torch


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """A CPU generator per picture, as diffusers uses them when it is given a list."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def initial_noise(
    generators: Sequence[torch.Generator], shape: tuple[int, int, int]
) -> torch.Tensor:
    """Standard normal noise, float32 on the CPU, (len(generators), *shape).

    Each picture has a generator of its own; the same seed therefore starts from the same noise in
    any batch. Across instruction sets the same seed is *not* bit-equal, so its digest is recorded.
    """
    return torch.cat([torch.randn((1, *shape), generator=generator) for generator in generators])


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
