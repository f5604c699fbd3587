"""A small judge that names the object in a picture; it is trained on renders only.

It has never seen a generated picture, so what it recognises in one was drawn like the icon.
"""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from icons import NAMES, Icons
from scenes import NATIVE, Scene, draw
from shards import held_out_scenes, scenes_for, to_tensor
from torch import Tensor, nn


def new_classifier() -> nn.Sequential:
    """Pictures (n, 3, 64, 64) → logits (n, 45)."""
    widths = (3, 32, 64, 96, 128)
    layers: list[nn.Module] = []
    for inside, outside in pairwise(widths):
        layers += [nn.Conv2d(inside, outside, 3, 2, 1), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(128 * 16, len(NAMES)))


def shrink(pictures: Tensor) -> Tensor:
    """Native pictures (n, 3, 128, 128) → what the classifier sees."""
    return F.avg_pool2d(pictures, 2)


def labels(scenes: list[Scene]) -> Tensor:
    """Index of the first thing's name (n,)."""
    return torch.tensor([NAMES.index(scene.things[0].name) for scene in scenes])


def renders(icons: Icons, scenes: list[Scene], seed: int) -> Tensor:
    """Scenes drawn at the native size, as the classifier sees them."""
    rng = random.Random(seed)
    return shrink(to_tensor([draw(scene, icons, NATIVE, rng) for scene in scenes]))


def single(scenes: list[Scene]) -> list[Scene]:
    """Only the scenes with one thing."""
    return [scene for scene in scenes if len(scene.things) == 1]


def load_classifier(work: Path, icons: Icons, steps: int = 500) -> tuple[nn.Sequential, int, int]:
    """The classifier (trained on first use), and how many of how many held-out renders it names.

    Training adds blur and noise, so that a soft picture is not wrong for being soft.
    """
    model = new_classifier()
    path = work / "classifier.pt"
    if path.exists():
        model.load_state_dict(torch.load(path))
    else:
        scenes = single(scenes_for(21, 6000))
        pictures, names = renders(icons, scenes, 21), labels(scenes)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        torch.manual_seed(0)
        for _ in range(steps):
            chosen = torch.randint(len(names), (64,))
            batch = pictures[chosen]
            if torch.rand(()) < 0.5:
                batch = F.avg_pool2d(batch, 3, 1, 1)
            batch = batch + 0.2 * torch.rand(64, 1, 1, 1) * torch.randn_like(batch)
            loss = F.cross_entropy(model(batch), names[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        torch.save(model.state_dict(), path)
    model.eval()
    scenes = single(held_out_scenes(22, 600))
    with torch.no_grad():
        right = model(renders(icons, scenes, 22)).argmax(1) == labels(scenes)
    return model, int(right.sum()), len(right)
