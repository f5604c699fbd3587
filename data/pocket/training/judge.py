"""The judge of pictures: `python data/pocket/training/judge.py --work DIR` (run again to go on).

Trains the network of `audit.prompt_judge` on renders of what training draws, and measures it on
renders of combinations that no training draws. Writes `../judge/` only where it is right in at
least 95 % of them in every aspect, and exits with 1 where it is not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from icons import NAMES, STYLES, Icons, load_icons
from numpy.typing import NDArray
from resumable import steps
from safetensors.torch import load, save
from scenes import BACKGROUNDS, NATIVE, POSITIONS, SIDED, SMALL, TINTS, Scene, draw
from shards import held_out_scenes, scenes_for
from torch import Tensor

from audit.prompt_judge import (
    ASPECTS,
    CARD,
    FOLDER,
    WEIGHTS,
    Aspect,
    JudgeCard,
    PromptJudge,
    Share,
    good,
    new_network,
    side,
    to_tensor,
    windows,
)
from audit.prompt_words import Vocabulary

POCKET = Path(__file__).parent.parent
SCENES, STEPS, BATCH = 6000, 3000, 64
HELD_OUT = 900
STRAY = 0.06
"""Share of a window's side by which training moves and scales it."""

Pictures = NDArray[np.uint8]

WORDS = Vocabulary(
    objects=tuple(NAMES),
    styles=tuple(STYLES),
    tints=tuple(TINTS),
    backgrounds=dict(BACKGROUNDS),
    # Halfway between small things and the next larger ones, which stand on a side.
    small_up_to=(SMALL + SIDED) / 2 / NATIVE[1],
)


def rendered(scenes: list[Scene], icons: Icons, seed: int) -> list[Pictures]:
    """Native renders (128, 128, 3)."""
    rng = random.Random(seed)
    return [np.asarray(draw(scene, icons, NATIVE, rng)) for scene in scenes]


def labels(scenes: list[Scene]) -> Tensor:
    """Indices (n, 3) of name, style and tint of every thing; −1 for a thing without a tint."""
    rows = [
        (
            WORDS.objects.index(thing.name),
            WORDS.styles.index(scene.style),
            WORDS.tints.index(thing.tint) if thing.tint else -1,
        )
        for scene in scenes
        for thing in scene.things
    ]
    return torch.tensor(rows)


def blurred(pictures: Tensor) -> Tensor:
    """Training adds blur to half of the batches, and noise, so that a soft picture is not wrong
    for being soft."""
    if torch.rand(()) < 0.5:
        pictures = F.avg_pool2d(pictures, 3, 1, 1)
    return pictures + 0.2 * torch.rand(len(pictures), 1, 1, 1) * torch.randn_like(pictures)


def train(icons: Icons, checkpoint: Path, scene_count: int, total: int) -> dict[str, Tensor]:
    """The network's weights after `total` steps, as they are stored: in float16."""
    torch.manual_seed(0)
    scenes = scenes_for(21, scene_count)
    chance = random.Random(23)
    cut = [
        windows(picture, len(scene.things), lambda: chance.uniform(-STRAY, STRAY))
        for scene, picture in zip(scenes, rendered(scenes, icons, 21), strict=True)
    ]
    pictures, answers = np.concatenate(cut), labels(scenes)
    network = new_network(WORDS).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=total + 1)
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    kinds = [len(WORDS.objects), len(WORDS.styles), len(WORDS.tints)]
    losses: list[float] = []
    for _ in steps(checkpoint, total, parts, losses):
        chosen = torch.randint(len(pictures), (BATCH,))
        logits = network(blurred(to_tensor(pictures[chosen.numpy()])))
        names, styles, tints = logits.split(kinds, 1)
        name, style, tint = answers[chosen].unbind(1)
        loss = F.cross_entropy(names, name, label_smoothing=0.1)
        loss = loss + 0.3 * F.cross_entropy(styles, style)
        # A sum and not a mean: a batch may be without any tinted thing.
        loss = loss + F.cross_entropy(tints, tint, ignore_index=-1, reduction="sum") / BATCH
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    values = network.state_dict().items()
    return {key: (v.half() if v.is_floating_point() else v).contiguous() for key, v in values}


def measured(judge: PromptJudge, icons: Icons, count: int) -> dict[Aspect, Share]:
    """How often each aspect is told right on renders of held-out combinations, thing by thing or
    picture by picture: what the judge would say of a perfect model."""
    scenes = held_out_scenes(22, count)
    told: dict[Aspect, list[bool]] = {aspect: [] for aspect in ASPECTS}
    for scene, picture in zip(scenes, rendered(scenes, icons, 22), strict=True):
        things = scene.things
        for thing, seen in zip(things, judge.seen(picture, len(things)), strict=True):
            told["object"].append(seen.name == thing.name)
            told["style"].append(seen.style == scene.style)
            if thing.tint:
                told["tint"].append(seen.tint == thing.tint)
        told["background"].append(judge.background(picture) == scene.background)
        if len(things) == 1:
            told["position"].append(side(picture) == things[0].position)
            told["size"].append(judge.is_small(picture) == things[0].small)
    return {aspect: Share(right=sum(hits), of=len(hits)) for aspect, hits in told.items()}


def otherwise(scene: Scene, rng: random.Random) -> Scene:
    """The scene with one of the things that its caption says said wrong."""

    def other(words: Iterable[str], word: str) -> str:
        return rng.choice([each for each in words if each != word])

    thing, *rest = scene.things
    things = [replace(thing, name=other(NAMES, thing.name))]
    if thing.tint:
        things.append(replace(thing, tint=other(TINTS, thing.tint)))
    if thing.position and not rest:
        things.append(replace(thing, position=other(list(POSITIONS)[1:], thing.position)))
    if not thing.small and not rest:
        things.append(replace(thing, small=True))
    wrong = [replace(scene, things=(changed, *rest)) for changed in things]
    if scene.told[0]:
        wrong.append(replace(scene, style=other(STYLES, scene.style)))
    if scene.told[1]:
        wrong.append(replace(scene, background=other(BACKGROUNDS, scene.background)))
    return rng.choice(wrong)


def told_apart(judge: PromptJudge, icons: Icons, count: int) -> tuple[Share, Share]:
    """How many renders of held-out combinations are said to follow their captions, and how many
    not to follow captions that are wrong in one respect."""
    scenes, rng = held_out_scenes(24, count), random.Random(25)
    pictures = rendered(scenes, icons, 24)
    pairs = list(zip(pictures, scenes, strict=True))
    right = [judge.follows(picture, scene.caption) is True for picture, scene in pairs]
    wrong = [
        judge.follows(picture, otherwise(scene, rng).caption) is False for picture, scene in pairs
    ]
    return Share(right=sum(right), of=count), Share(right=sum(wrong), of=count)


def main() -> None:
    """Trains, measures what would be stored, and stores it where it is good enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--out", type=Path, default=POCKET, help="model folder to write into")
    parser.add_argument("--scenes", type=int, default=SCENES, help="renders to train on")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help="renders to measure on")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    icons, begun = load_icons(options.work), time.monotonic()
    checkpoint = options.work / f"judge-{options.scenes}-{options.steps}.pt"
    weights = save(train(icons, checkpoint, options.scenes, options.steps), {"format": "pt"})
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes in this sitting", flush=True)
    network = new_network(WORDS)
    network.load_state_dict(load(weights))
    none = Share(right=0, of=0)
    digest = hashlib.sha256(weights).hexdigest()
    card = JudgeCard(words=WORDS, weights_sha256=digest, figures={}, accepted=none, refused=none)
    judge = PromptJudge(card, network)
    figures = measured(judge, icons, options.held_out)
    accepted, refused = told_apart(judge, icons, options.held_out)
    for aspect, share in [*figures.items(), ("accepted", accepted), ("refused", refused)]:
        print(f"{aspect}: {share.right} of {share.of} ({share.right / max(share.of, 1):.1%})")
    if poor := [aspect for aspect, share in figures.items() if not good(share)]:
        sys.exit(f"not written: below 95 % right on held-out renders at {', '.join(poor)}")
    folder = options.out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(weights)
    content = json.dumps(
        asdict(replace(card, figures=figures, accepted=accepted, refused=refused)), indent=1
    )
    (folder / CARD).write_text(content + "\n")
    print(f"written: {folder}, {len(weights):,} bytes of weights")


if __name__ == "__main__":
    main()
