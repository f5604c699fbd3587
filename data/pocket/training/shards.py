"""Training pictures as latents: drawn, encoded and tokenized once, in shards on disk."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import torch
from icons import Icons
from model import Parts
from PIL import Image
from scenes import Scene, draw, held_out, random_scene, training_scenes
from tokenizer import LENGTH
from torch import Tensor
from transformers import CLIPTokenizer

SIZES = (64, 96, 128)
"""Sides of training pictures in pixels; the last is native."""

SHARD = {64: 1500, 96: 1000, 128: 1000}
"""Pictures per shard, by size."""

SHARDS = 4
"""Shards per size."""


@dataclass(frozen=True)
class Shard:
    """Latents (n, 4, size/4, size/4), scaled as the UNet sees them, and token ids (n, 77)."""

    latents: Tensor
    tokens: Tensor


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids (n, 77), padded as Stable Diffusion pads."""
    ids = tokenizer(
        captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
    ).input_ids
    assert isinstance(ids, Tensor)
    return ids


def to_tensor(pictures: list[Image.Image]) -> Tensor:
    """RGB pictures → (n, 3, side, side) in −1…1, channels last in memory as oneDNN likes it."""
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def encode(parts: Parts, pictures: list[Image.Image], batch: int = 16) -> Tensor:
    """Latents of pictures: the posterior's mean, times the scaling factor."""
    vae = parts.vae.eval()
    latents = [
        vae.encode(to_tensor(pictures[start : start + batch])).latent_dist.mean
        for start in range(0, len(pictures), batch)
    ]
    return torch.cat(latents).contiguous() * float(vae.config.scaling_factor)


def make_shard(parts: Parts, icons: Icons, scenes: list[Scene], size: int, seed: int) -> Shard:
    """Scenes drawn at a size, as latents and tokens."""
    rng = random.Random(seed)
    pictures = [draw(scene, icons, size, rng) for scene in scenes]
    tokens = tokenize(parts.tokenizer, [scene.caption for scene in scenes])
    return Shard(encode(parts, pictures), tokens)


def scenes_for(size: int, seed: int, count: int) -> list[Scene]:
    """Training scenes that fit a size: below the native one there is room for one object only."""
    rng = random.Random(seed)
    shares = (0.2, 0.25) if size == SIZES[-1] else (0.0, 0.0)
    return list(islice(training_scenes(rng, *shares), count))


def load_shard(parts: Parts, icons: Icons, work: Path, size: int, index: int) -> Shard:
    """Shard `index` of a size, from `work` or newly made there."""
    path = work / f"shard-{size}-{index}.pt"
    if not path.exists():
        seed = 1000 * size + index
        shard = make_shard(parts, icons, scenes_for(size, seed, SHARD[size]), size, seed)
        fresh = path.with_suffix(".part")
        torch.save({"latents": shard.latents.half(), "tokens": shard.tokens.short()}, fresh)
        fresh.replace(path)
    stored = torch.load(path)
    return Shard(stored["latents"].float(), stored["tokens"].long())


def held_out_scenes(seed: int, count: int) -> list[Scene]:
    """Scenes of which each has a pairing that training leaves out."""
    rng = random.Random(seed)
    scenes = (random_scene(rng) for _ in repeat(None))
    return list(islice((scene for scene in scenes if held_out(scene)), count))


def held_out_shard(parts: Parts, icons: Icons, count: int = 48) -> Shard:
    """Native pictures of held-out pairings: what the validation loss is taken on."""
    return make_shard(parts, icons, held_out_scenes(7, count), SIZES[-1], 7)
