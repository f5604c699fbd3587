"""Scenes and their captions: one or two icons on a flat background.

A scene is drawn at random from a seed, so that a pool of training pictures is named by its seed.
Some combinations of a name with a background, a tint or a second name are held out from
training; the evaluation asks for exactly these.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from icons import NAMES, STYLES, Icons
from PIL import Image

Colour = tuple[int, int, int]
Size = tuple[int, int]
"""Width and height in pixels."""

NATIVE: Size = (128, 128)

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
"""Side of an object in pixels, whatever the size of the picture up to the native one: what is
learnt on small, cheap pictures then carries over, where only the margin is wider. On larger
pictures every other scene is drawn larger in proportion, as a second pass finds it."""


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
    """One or two things in a style on a background; `told` says which of these two the caption
    names. A `fragment` stands for the whole caption: one word of it, as negative prompts say."""

    things: tuple[Thing, ...]
    style: str
    background: str
    told: tuple[bool, bool] = (True, True)
    fragment: str = ""

    @property
    def caption(self) -> str:
        """The prompt that asks for this scene."""
        if self.fragment:
            return self.fragment
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
    """Whether a scene has a pairing kept from training: per name one background and one tint,
    and one in nine of the pairs of names, in their order."""
    background = list(BACKGROUNDS).index(scene.background)
    numbers = [NAMES.index(thing.name) for thing in scene.things]
    if len(numbers) == 2 and (numbers[0] + 2 * numbers[1]) % 9 == 0:
        return True
    return any(
        (number * 3 + background) % len(BACKGROUNDS) == 0
        or (thing.tint and (number * 2 + list(TINTS).index(thing.tint)) % len(TINTS) == 0)
        for number, thing in zip(numbers, scene.things, strict=True)
    )


@dataclass(frozen=True)
class Mix:
    """Shares of scenes with two things and with one on a side (the rest has one in the middle),
    and of captions that are a fragment only."""

    pair: float = 0.35
    sided: float = 0.25
    fragment: float = 0.12


def random_scene(rng: random.Random, mix: Mix = Mix()) -> Scene:
    """Any scene."""

    def tint(share: float) -> str:
        return rng.choice(list(TINTS)) if rng.random() < share else ""

    kind = rng.random()
    sides = list(POSITIONS)[1:]
    things: tuple[Thing, ...]
    if kind < mix.pair:
        things = tuple(Thing(rng.choice(NAMES), tint(0.1), side) for side in sides)
    elif kind < mix.pair + mix.sided:
        small = rng.random() < 0.1
        things = (Thing(rng.choice(NAMES), tint(0.2), rng.choice(sides), small),)
    else:
        things = (Thing(rng.choice(NAMES), tint(0.2), small=rng.random() < 0.2),)
    told = (rng.random() < 0.85, rng.random() < 0.9)
    scene = Scene(things, rng.choice(list(STYLES)), rng.choice(list(BACKGROUNDS)), told)
    if rng.random() < mix.fragment:
        words = [thing.name for thing in things]
        words += [f"{scene.style} style", f"{scene.background} background"]
        return replace(scene, fragment=rng.choice(words))
    return scene


def training_scenes(rng: random.Random, mix: Mix = Mix()) -> Iterator[Scene]:
    """Random scenes for ever, without the held-out pairings."""
    while True:
        scene = random_scene(rng, mix)
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


def draw(scene: Scene, icons: Icons, size: Size, rng: random.Random) -> Image.Image:
    """The scene as RGB of (width, height), with a little chance in colour, size and place."""
    ground = tuple(
        max(0, min(255, level + rng.randint(-6, 6))) for level in BACKGROUNDS[scene.background]
    )
    canvas = Image.new("RGBA", size, (*ground, 255))
    larger = min(side / native for side, native in zip(size, NATIVE, strict=True))
    scale = larger if larger > 1 and rng.random() < 0.5 else 1
    for thing in scene.things:
        icon = icons[(thing.name, scene.style)]
        if thing.tint:
            icon = tinted(icon, TINTS[thing.tint])
        side = SMALL if thing.small else SIDED if thing.position else NORMAL
        side = min(round(side * scale * rng.uniform(0.94, 1.06)), min(size) - 4)
        place = [
            round((centre + rng.uniform(-0.015, 0.015)) * length - side / 2)
            for centre, length in zip((POSITIONS[thing.position], 0.5), size, strict=True)
        ]
        corner = (
            max(0, min(length - side, start)) for start, length in zip(place, size, strict=True)
        )
        canvas.alpha_composite(icon.resize((side, side), Image.Resampling.LANCZOS), tuple(corner))
    return canvas.convert("RGB")
