"""The 300 held-out prompts: `python data/pocket/training/prompts.py` writes them again.

Every one of them has a combination that training never draws; the seeds are part of the list.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from icons import NAMES, STYLES
from scenes import BACKGROUNDS, POSITIONS, TINTS, Scene, Thing, held_out

PROMPTS = Path(__file__).parent.parent / "evaluation" / "prompts.jsonl"

Group = Literal["middle", "tinted", "small", "sided", "pair"]


@dataclass(frozen=True)
class Prompt:
    """A scene to ask for, and the seed to ask with."""

    group: Group
    seed: int
    scene: Scene

    def line(self) -> str:
        """As a line of the file; what is judged stands beside the words."""
        things = self.scene.things
        content = {
            "group": self.group,
            "seed": self.seed,
            "prompt": self.scene.caption,
            "objects": [thing.name for thing in things],
            "tint": things[0].tint,
            "position": things[0].position if len(things) == 1 else "",
            "small": things[0].small,
            "style": self.scene.style,
            "background": self.scene.background,
        }
        return json.dumps(content)


def held_out_background(name: str) -> str:
    """The background that training leaves out for this name."""
    return next(b for b in BACKGROUNDS if held_out(Scene((Thing(name),), "flat", b)))


def held_out_tint(name: str) -> str:
    """The tint that training leaves out for this name."""
    ground = next(b for b in BACKGROUNDS if b != held_out_background(name))
    return next(t for t in TINTS if held_out(Scene((Thing(name, t),), "flat", ground)))


def held_out_pairs() -> list[tuple[str, str]]:
    """Pairs of different names, left and right, that training leaves out on any background."""
    return [
        (a, b)
        for i, a in enumerate(NAMES)
        for j, b in enumerate(NAMES)
        if i != j and (i + 2 * j) % 9 == 0
    ]


def pair_scene(a: str, b: str, style: str, background: str) -> Scene:
    """Two plain things side by side."""
    left, right = list(POSITIONS)[1:]
    return Scene((Thing(a, position=left), Thing(b, position=right)), style, background)


def held_out_prompts() -> list[Prompt]:
    """All of them: every name in the middle in both styles, tinted, and on a side; 30 small ones
    and 90 pairs."""
    rng = random.Random(300)
    styles, sides = list(STYLES), list(POSITIONS)[1:]
    scenes: list[tuple[Group, Scene]] = []
    for name in NAMES:
        scenes += [
            ("middle", Scene((Thing(name),), style, held_out_background(name))) for style in styles
        ]
    for i, name in enumerate(NAMES):
        tint = held_out_tint(name)
        unlike = {held_out_background(name), tint, "yellow" if tint == "golden" else tint}
        ground = rng.choice([b for b in BACKGROUNDS if b not in unlike])
        scenes.append(("tinted", Scene((Thing(name, tint),), styles[i % 2], ground)))
    for i, name in enumerate(sorted(rng.sample(NAMES, 30))):
        scene = Scene((Thing(name, small=True),), styles[i % 2], held_out_background(name))
        scenes.append(("small", scene))
    for i, name in enumerate(NAMES):
        thing = Thing(name, position=sides[i % 2])
        scenes.append(("sided", Scene((thing,), styles[i // 2 % 2], held_out_background(name))))
    for i, (a, b) in enumerate(rng.sample(held_out_pairs(), 90)):
        scenes.append(("pair", pair_scene(a, b, styles[i % 2], rng.choice(list(BACKGROUNDS)))))
    return [Prompt(group, 1000 + seed, scene) for seed, (group, scene) in enumerate(scenes)]


if __name__ == "__main__":
    PROMPTS.parent.mkdir(exist_ok=True)
    PROMPTS.write_text("".join(prompt.line() + "\n" for prompt in held_out_prompts()))
