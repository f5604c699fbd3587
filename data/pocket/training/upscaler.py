"""The 2x upscaler: `python data/pocket/training/upscaler.py --work DIR` (run again to go on).

Trains the network of `core.upscaler` on renders of twice the native size and the same pictures
shrunk to half. Writes `../upscaler/` only where it is better than bicubic interpolation by at least
1 dB on held-out renders, and exits with 1 where it is not.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
from icons import Icons, load_icons
from numpy.typing import NDArray
from PIL import Image
from resumable import steps
from safetensors.torch import save
from scenes import NATIVE, Scene, Size, draw
from shards import held_out_scenes, scenes_for
from torch import Tensor

from core.upscaler import Upscaler, load_upscaler, upscale

FOLDER = Path(__file__).parent.parent / "upscaler"
LARGE: Size = (2 * NATIVE[0], 2 * NATIVE[1])
PICTURES, STEPS, HELD_OUT = 600, 2000, 64
PATCH, BATCH = 32, 16
"""Side of a training patch before upscaling in pixels, and patches per step."""
FLAT = 2.0
"""Standard deviation in levels up to which a patch is flat; one flat patch in ten is kept."""
BETTER = 1.0
"""What it has to gain on bicubic interpolation, in dB."""

Pixels = NDArray[np.uint8]


def pair(scene: Scene, icons: Icons, rng: random.Random) -> tuple[Image.Image, Image.Image]:
    """A scene of twice the native size, and the same picture at the native one."""
    large = draw(scene, icons, LARGE, rng)
    return large, large.resize(NATIVE, Image.Resampling.LANCZOS)


def patches(large: Pixels, small: Pixels) -> tuple[Tensor, Tensor]:
    """Random patches (BATCH, 3, PATCH, PATCH) in −1…1, and what they should become. All chances
    are torch's, so that training can be resumed."""
    found: list[tuple[Pixels, Pixels]] = []
    while len(found) < BATCH:
        n, y, x = (
            int(torch.randint(high, ()))
            for high in (len(small), NATIVE[1] - PATCH + 1, NATIVE[0] - PATCH + 1)
        )
        wanted = large[n, 2 * y : 2 * (y + PATCH), 2 * x : 2 * (x + PATCH)]
        if wanted.std((0, 1)).max() > FLAT or torch.rand(()) < 0.1:
            found.append((small[n, y : y + PATCH, x : x + PATCH], wanted))
    given, wanted_ = (np.stack(side) for side in zip(*found, strict=True))
    return tensor(given), tensor(wanted_)


def tensor(pictures: Pixels) -> Tensor:
    """uint8 (n, height, width, 3) → (n, 3, height, width) in −1…1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def train(icons: Icons, checkpoint: Path, count: int, total: int) -> bytes:
    """The weights after `total` steps, as they are stored: a safetensors file in float16."""
    torch.manual_seed(0)
    rng = random.Random(31)
    pairs = [pair(scene, icons, rng) for scene in scenes_for(31, count)]
    large, small = (np.stack([np.asarray(p[i]) for p in pairs]) for i in (0, 1))
    upscaler = Upscaler()
    optimizer = torch.optim.AdamW(upscaler.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=total + 1)
    parts = {"network": upscaler, "optimizer": optimizer, "schedule": schedule}
    losses: list[float] = []
    for _ in steps(checkpoint, total, parts, losses):
        given, wanted = patches(large, small)
        error = upscaler(given) - wanted
        loss = error.abs().mean() + 4 * error.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    half = {key: value.half().contiguous() for key, value in upscaler.state_dict().items()}
    return save(half, {"format": "pt"})


def psnr(made: Image.Image, wanted: Image.Image) -> float:
    """In dB, of 255 levels."""
    error = np.asarray(made, np.float64) - np.asarray(wanted, np.float64)
    return float(10 * np.log10(255**2 / max(np.square(error).mean(), 1e-12)))


def measured(upscaler: Upscaler, icons: Icons, count: int) -> dict[str, float | int]:
    """Mean PSNR over held-out pictures, as a user gets them, beside both bicubic interpolations at
    hand: Pillow's, and torch's, which is the untrained network."""
    rng = random.Random(32)
    ways = {
        "psnr_db": lambda small: upscale(upscaler, small),
        "pillow_bicubic_psnr_db": lambda small: small.resize(LARGE, Image.Resampling.BICUBIC),
        "torch_bicubic_psnr_db": lambda small: upscale(Upscaler(), small),
    }
    values: dict[str, list[float]] = {name: [] for name in ways}
    for scene in held_out_scenes(32, count):
        large, small = pair(scene, icons, rng)
        for name, way in ways.items():
            values[name].append(psnr(way(small), large))
    means = {name: round(sum(found) / len(found), 2) for name, found in values.items()}
    return {**means, "pictures": count}


def main() -> None:
    """Trains, measures what would be stored, and stores it where it is good enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write into")
    parser.add_argument("--pictures", type=int, default=PICTURES, help="renders to train on")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help="renders to measure on")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    icons = load_icons(options.work)
    checkpoint = options.work / f"upscaler-{options.pictures}-{options.steps}.pt"
    weights = train(icons, checkpoint, options.pictures, options.steps)
    figures = measured(load_upscaler(weights), icons, options.held_out)
    figures |= {"bytes": len(weights), "steps": options.steps, "renders": options.pictures}
    print(json.dumps(figures))
    bicubic = max(figures["pillow_bicubic_psnr_db"], figures["torch_bicubic_psnr_db"])
    if figures["psnr_db"] < bicubic + BETTER:
        sys.exit(f"not written: less than {BETTER:g} dB better than bicubic interpolation")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "model.safetensors").write_bytes(weights)
    (options.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
