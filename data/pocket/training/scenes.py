"""Scenes and their captions: one or two icons on a flat background.

A scene is drawn at random from a seed, so that a pool of training pictures is named by its seed.
Some combinations of a name with a background or a tint are held out from training; the
evaluation asks for exactly these.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from icons import NAMES, STYLES, Icons
from PIL import Image

Colour = tuple[int, int, int]

BACKGROUNDS: dict[str, Colour] = {
    "white": (250, 250, 250),
    "black": (18, 18, 22),
    "red": (220, 50, 47),
    "yellow": (250, 215, 70),
    "green": (70, 165, 85),
    "blue": (45, 95, 205),
    "purple": (130, 75, 180),
    "pink": (250, 165, 200),
}
TINTS: dict[str, Colour] = {
    "red": (225, 40, 40),
    "blue": (50, 110, 235),
    "green": (50, 175, 70),
    "purple": (150, 70, 205),
    "golden": (250, 190, 30),
}
POSITIONS = {"": 0.5, "on the left": 0.26, "on the right": 0.74}
"""Words after the object → centre of the object, as a fraction of the width."""

NORMAL, SIDED, SMALL = 78, 58, 46
"""Side of an object in pixels, whatever the size of the picture: what is learnt on small, cheap
pictures then carries over to the native size, where only the margin is wider."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene; `tint` and `position` may be empty."""

    name: str
    tint: str = ""
    position: str = ""
    small: bool = False

    def words(self) -> str:
        """As the caption says it: a tint replaces the colour in the object's own name."""
        name = self.name.removeprefix("red ") if self.tint else self.name
        phrase = " ".join(word for word in ("small" if self.small else "", self.tint, name) if word)
        article = "an" if phrase[0] in "aeiou" and not phrase.startswith("uni") else "a"
        return f"{article} {phrase}"


@dataclass(frozen=True)
class Scene:
    """One or two things in a style on a background; `told` says which of the two the caption
    names."""

    things: tuple[Thing, ...]
    style: str
    background: str
    told: tuple[bool, bool] = (True, True)

    @property
    def caption(self) -> str:
        """The prompt that asks for this scene."""
        if len(self.things) == 2:
            words = " and ".join(thing.words() for thing in self.things)
        else:
            words = f"{self.things[0].words()} {self.things[0].position}".strip()
        style, background = self.told
        return (
            words
            + (f", {self.style} style" if style else "")
            + (f", {self.background} background" if background else "")
        )


def held_out(scene: Scene) -> bool:
    """Whether a scene has a pairing kept from training: per name one background and one tint."""
    background = list(BACKGROUNDS).index(scene.background)
    return any(
        (NAMES.index(thing.name) * 3 + background) % len(BACKGROUNDS) == 0
        or (thing.tint and (NAMES.index(thing.name) * 2 + list(TINTS).index(thing.tint)) % 5 == 0)
        for thing in scene.things
    )


def random_scene(rng: random.Random, pair: float = 0.15, sided: float = 0.2) -> Scene:
    """Any scene: `pair` and `sided` are the shares of two objects and of one beside the middle."""

    def tint(share: float) -> str:
        return rng.choice(list(TINTS)) if rng.random() < share else ""

    kind = rng.random()
    things: tuple[Thing, ...]
    if kind < pair:
        left, right = ("on the left", "on the right")
        things = (
            Thing(rng.choice(NAMES), tint(0.1), left),
            Thing(rng.choice(NAMES), tint(0.1), right),
        )
    elif kind < pair + sided:
        things = (Thing(rng.choice(NAMES), tint(0.15), rng.choice(list(POSITIONS)[1:])),)
    else:
        things = (Thing(rng.choice(NAMES), tint(0.15), small=rng.random() < 0.15),)
    told = (rng.random() < 0.85, rng.random() < 0.9)
    return Scene(things, rng.choice(list(STYLES)), rng.choice(list(BACKGROUNDS)), told)


def training_scenes(rng: random.Random, pair: float = 0.15, sided: float = 0.2) -> Iterator[Scene]:
    """Random scenes for ever, without the held-out pairings."""
    while True:
        scene = random_scene(rng, pair, sided)
        if not held_out(scene):
            yield scene


def tinted(icon: Image.Image, colour: Colour) -> Image.Image:
    """The icon in shades of one colour: dark stays dark, light tends to white."""
    pixels = np.asarray(icon).astype(np.float32)
    luma = (pixels[..., :3] @ np.array([0.3, 0.59, 0.11], np.float32))[..., None] / 255
    tone = np.array(colour, np.float32)
    dark = tone * (1.8 * luma + 0.1 * luma)
    light = tone + (255 - tone) * (luma - 0.5) * 1.5
    rgb = np.where(luma < 0.5, dark, light).clip(0, 255)
    return Image.fromarray(np.concatenate([rgb, pixels[..., 3:]], -1).astype(np.uint8))


def draw(scene: Scene, icons: Icons, size: int, rng: random.Random) -> Image.Image:
    """The scene as RGB, `size` px square, with a little chance in colour, size and place."""
    ground = tuple(
        max(0, min(255, level + rng.randint(-6, 6))) for level in BACKGROUNDS[scene.background]
    )
    canvas = Image.new("RGBA", (size, size), (*ground, 255))
    for thing in scene.things:
        icon = icons[(thing.name, scene.style)]
        if thing.tint:
            icon = tinted(icon, TINTS[thing.tint])
        side = SMALL if thing.small else SIDED if thing.position else NORMAL
        side = min(round(side * rng.uniform(0.94, 1.06)), size - 4)
        place = [
            round((centre + rng.uniform(-0.015, 0.015)) * size - side / 2)
            for centre in (POSITIONS[thing.position], 0.5)
        ]
        x, y = (max(0, min(size - side, corner)) for corner in place)
        canvas.alpha_composite(icon.resize((side, side), Image.Resampling.LANCZOS), (x, y))
    return canvas.convert("RGB")
