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
from scenes import NATIVE, Mix, Scene, Size, draw, held_out, random_scene, training_scenes
from tokenizer import LENGTH
from torch import Tensor
from transformers import CLIPTokenizer


@dataclass(frozen=True)
class Pool:
    """Training pictures of one size: how many per shard, how many per worker and step (about
    equal work at every size), and what they show."""

    size: Size
    pictures: int
    batch: int
    mix: Mix


ONE = Mix(pair=0, sided=0)
POOLS = (
    Pool((64, 64), 1200, 32, ONE),
    Pool((128, 64), 1200, 16, Mix(pair=0.55, sided=0.4)),
    Pool((64, 128), 240, 16, ONE),
    Pool(NATIVE, 1000, 8, Mix()),
    Pool((256, 128), 80, 4, Mix(pair=0.4, sided=0.4)),
    Pool((128, 256), 80, 4, ONE),
    Pool((192, 192), 80, 4, Mix()),
)
"""The small sizes have room for one thing, or for two side by side, at a fraction of the cost."""

SHARDS = 8
"""Shards per size; training starts with the first and takes one more at each checkpoint."""


@dataclass(frozen=True)
class Shard:
    """Latents (n, 4, height/4, width/4), scaled as the UNet sees them, and token ids (n, 77)."""

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
    """RGB pictures → (n, 3, height, width) in −1…1, channels last in memory as oneDNN likes it."""
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


def make_shard(parts: Parts, icons: Icons, scenes: list[Scene], size: Size, seed: int) -> Shard:
    """Scenes drawn at a size, as latents and tokens."""
    rng = random.Random(seed)
    pictures = [draw(scene, icons, size, rng) for scene in scenes]
    tokens = tokenize(parts.tokenizer, [scene.caption for scene in scenes])
    return Shard(encode(parts, pictures), tokens)


def scenes_for(seed: int, count: int, mix: Mix = Mix()) -> list[Scene]:  # noqa: B008 (frozen)
    """Training scenes named by a seed."""
    return list(islice(training_scenes(random.Random(seed), mix), count))


def load_shard(parts: Parts, icons: Icons, work: Path, pool: Pool, index: int) -> Shard:
    """Shard `index` of a pool, from `work` or newly made there."""
    width, height = pool.size
    path = work / f"shard-{width}x{height}-{index}.pt"
    if not path.exists():
        seed = 1_000_000 * width + 1000 * height + index
        scenes = scenes_for(seed, pool.pictures, pool.mix)
        shard = make_shard(parts, icons, scenes, pool.size, seed)
        fresh = path.with_suffix(".part")
        torch.save({"latents": shard.latents.half(), "tokens": shard.tokens.short()}, fresh)
        fresh.replace(path)
    stored = torch.load(path)
    return Shard(stored["latents"].float(), stored["tokens"].long())


def held_out_scenes(seed: int, count: int) -> list[Scene]:
    """Scenes of which each has a pairing that training leaves out."""
    rng = random.Random(seed)
    scenes = (random_scene(rng, Mix(fragment=0)) for _ in repeat(None))
    return list(islice((scene for scene in scenes if held_out(scene)), count))


def held_out_shard(parts: Parts, icons: Icons, count: int = 48) -> Shard:
    """Native pictures of held-out pairings: what the validation loss is taken on."""
    return make_shard(parts, icons, held_out_scenes(7, count), NATIVE, 7)
