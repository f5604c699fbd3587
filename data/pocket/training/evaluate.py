"""Measures the shipped model: `python data/pocket/training/evaluate.py --work DIR`.

Plain diffusers, 20 Euler steps, guidance 5 unless said; prompts are pairings that our training
left out, seeds are fixed. Writes `evaluation.json` here and `grid.png` beside the weights.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from classifier import labels, load_classifier, shrink
from diffusers import StableDiffusionPipeline
from icons import NAMES, STYLES, Icons, load_icons
from numpy.typing import NDArray
from PIL import Image
from scenes import BACKGROUNDS, NATIVE, POSITIONS, TINTS, Scene, Thing, draw, held_out
from shards import to_tensor
from skimage.color import rgb2lab
from vae import held_out_pictures, psnr

HERE = Path(__file__).parent
POCKET = HERE.parent
RESULTS = HERE / "evaluation.json"
STEPS, GUIDANCE = 20, 5.0
CLOSE = 25.0
"""ΔE (CIE 1976) up to which two objects' mean colours count as the same."""

Pixels = NDArray[np.float64]


def generate(
    pipeline: StableDiffusionPipeline,
    prompts: list[str],
    seeds: list[int],
    guidance: float = GUIDANCE,
    negative: list[str] | None = None,
) -> list[Image.Image]:
    """One native picture per prompt, in batches of 8 with a generator each."""
    pictures: list[Image.Image] = []
    for start in range(0, len(prompts), 8):
        part = slice(start, start + 8)
        pictures += pipeline(
            prompts[part],
            negative_prompt=negative[part] if negative else None,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds[part]],
        ).images
    return pictures


def ground(picture: Image.Image) -> Pixels:
    """Mean RGB (3,) of the border, three pixels wide."""
    pixels = np.asarray(picture.convert("RGB"), np.float64)
    inner = np.zeros(pixels.shape[:2], bool)
    inner[3:-3, 3:-3] = True
    return np.asarray(pixels[~inner].mean(0))


def background(picture: Image.Image) -> str:
    """The palette's name for the border's colour."""
    colour = ground(picture)
    return min(BACKGROUNDS, key=lambda name: float(np.linalg.norm(colour - BACKGROUNDS[name])))


def foreground(picture: Image.Image) -> NDArray[np.bool_]:
    """Mask (128, 128) of pixels whose colour is not the border's."""
    pixels = np.asarray(picture.convert("RGB"), np.float64)
    return np.asarray(np.linalg.norm(pixels - ground(picture), axis=-1) > 50)


def side(picture: Image.Image) -> str:
    """Where the foreground's centre of mass is: on the left, on the right, or "" for neither
    (within 5 % of the middle, or nothing there)."""
    columns = np.nonzero(foreground(picture))[1]
    if len(columns) < 40:
        return ""
    offset = columns.mean() / picture.width - 0.5
    return "" if abs(offset) < 0.05 else "on the left" if offset < 0 else "on the right"


def object_colour(picture: Image.Image) -> Pixels:
    """Mean CIELAB colour (3,) of the foreground."""
    mask = foreground(picture)
    lab = rgb2lab(np.asarray(picture.convert("RGB")))
    return np.asarray(lab[mask].mean(0) if mask.any() else lab.mean((0, 1)))


def share(hits: list[bool]) -> dict[str, int]:
    """A count and its total."""
    return {"right": sum(hits), "of": len(hits)}


def pairings(things: list[Thing]) -> list[Scene]:
    """Each thing on a background that is held out for it, in alternating styles."""
    styles = list(STYLES)
    scenes = (
        [Scene((thing,), styles[index % 2], name) for name in BACKGROUNDS]
        for index, thing in enumerate(things)
    )
    return [next(scene for scene in options if held_out(scene)) for options in scenes]


def held_out_tint(name: str) -> Thing:
    """The thing with the tint that training leaves out for this name."""
    return next(
        Thing(name, tint)
        for tint in TINTS
        if (NAMES.index(name) * 2 + list(TINTS).index(tint)) % len(TINTS) == 0
    )


class Evaluation:
    """The measurements, each a method that returns counts; pictures are kept for the grid."""

    def __init__(self, work: Path, pocket: Path) -> None:
        self.icons: Icons = load_icons(work)
        self.pipeline = StableDiffusionPipeline.from_pretrained(pocket)
        self.pipeline.set_progress_bar_config(disable=True)
        self.judge, right, total = load_classifier(work, self.icons)
        self.judged_renders = {"right": right, "of": total}

    def reference(self, scene: Scene) -> Image.Image:
        """The scene as the training data would draw it."""
        return draw(scene, self.icons, NATIVE, random.Random(0))

    def recognised(self, scenes: list[Scene], pictures: list[Image.Image]) -> dict[str, int]:
        """How many pictures the classifier names as asked, among 45 names; top five beside it."""
        with torch.no_grad():
            ranked = self.judge(shrink(to_tensor(pictures))).argsort(1, descending=True)
        hits = ranked == labels(scenes)[:, None]
        return share(hits[:, 0].tolist()) | {"in_first_five": int(hits[:, :5].sum())}

    def describe(self, scenes: list[Scene], pictures: list[Image.Image]) -> dict[str, Any]:
        """Background, object's colour (and the same against another object's: chance), object."""
        wanted = [object_colour(self.reference(scene)) for scene in scenes]
        made = [object_colour(picture) for picture in pictures]
        near = [float(np.linalg.norm(a - b)) <= CLOSE for a, b in zip(made, wanted, strict=True)]
        shifted = wanted[7:] + wanted[:7]
        chance = [float(np.linalg.norm(a - b)) <= CLOSE for a, b in zip(made, shifted, strict=True)]
        return {
            "background": share(
                [background(p) == s.background for s, p in zip(scenes, pictures, strict=True)]
            ),
            "object_colour": share(near),
            "object_colour_of_another": share(chance),
            "object": self.recognised(scenes, pictures),
        }

    def centred(self, guidance: float = GUIDANCE) -> dict[str, Any]:
        """Every name in the middle, on its held-out background."""
        scenes = pairings([Thing(name) for name in NAMES])
        prompts = [scene.caption for scene in scenes]
        seeds = list(range(len(scenes)))
        return self.describe(scenes, generate(self.pipeline, prompts, seeds, guidance))

    def centred_guidance_1(self) -> dict[str, Any]:
        """The same pictures without guidance."""
        return self.centred(1.0)

    def sided(self) -> dict[str, Any]:
        """Every other name on a side."""
        sides = list(POSITIONS)[1:]
        things = [Thing(name, "", sides[i % 4 // 2]) for i, name in enumerate(NAMES[::2])]
        scenes = pairings(things)
        prompts = [scene.caption for scene in scenes]
        pictures = generate(self.pipeline, prompts, list(range(200, 200 + len(scenes))))
        right = [side(p) == s.things[0].position for s, p in zip(scenes, pictures, strict=True)]
        return {"position": share(right)} | self.describe(scenes, pictures)

    def tinted(self) -> dict[str, Any]:
        """Every other name in its held-out tint: is the colour nearest to that tint's reference?"""
        grounds = ["white", "black"]
        scenes = [
            Scene((held_out_tint(name),), "flat", grounds[index % 2])
            for index, name in enumerate(NAMES[1::2])
        ]
        prompts = [scene.caption for scene in scenes]
        pictures = generate(self.pipeline, prompts, list(range(300, 300 + len(scenes))))
        right = []
        for scene, picture in zip(scenes, pictures, strict=True):
            colour = object_colour(picture)
            options = {
                tint: object_colour(
                    self.reference(
                        Scene((Thing(scene.things[0].name, tint),), "flat", scene.background)
                    )
                )
                for tint in TINTS
            }
            nearest = min(options, key=lambda tint: float(np.linalg.norm(colour - options[tint])))
            right.append(nearest == scene.things[0].tint)
        return {"tint": share(right), "object": self.recognised(scenes, pictures)}

    def negative(self, step: int = 0) -> dict[str, int]:
        """Without a background in the prompt: does naming the one that came out, as a negative
        prompt, make another one come out? `step` names one further on in the palette instead."""
        prompts = [Scene((Thing(n),), "flat", "white", (True, False)).caption for n in NAMES[::4]]
        seeds = list(range(400, 400 + len(prompts)))
        before = [background(p) for p in generate(self.pipeline, prompts, seeds)]
        names = list(BACKGROUNDS)
        words = [names[(names.index(name) + step) % len(names)] for name in before]
        negative = [f"{word} background" for word in words]
        after = generate(self.pipeline, prompts, seeds, negative=negative)
        return share([background(p) != b for p, b in zip(after, before, strict=True)])

    def negative_of_another(self) -> dict[str, int]:
        """The control: does naming a background that did not come out change it as well?"""
        return self.negative(3)

    def autoencoder(self) -> dict[str, Any]:
        """PSNR in dB on held-out renders, as is and with noise on the latents."""
        pictures = held_out_pictures(self.icons)
        vae = self.pipeline.vae
        clean, noisy = (round(psnr(vae, pictures, noise), 2) for noise in (0.0, 0.1))
        return {"psnr_db": clean, "psnr_db_with_noise_of_0.1": noisy, "pictures": len(pictures)}

    def classifier(self) -> dict[str, int]:
        """How well the judge itself does, on held-out renders."""
        return self.judged_renders

    def grid(self, path: Path) -> None:
        """24 pictures of one seed, as a PNG with a palette: small, and enough for flat colours."""
        pictures = generate(self.pipeline, GRID, [7] * len(GRID))
        sheet = Image.new("RGB", (8 * NATIVE[0], len(GRID) // 8 * NATIVE[1]))
        for index, picture in enumerate(pictures):
            sheet.paste(picture, (index % 8 * NATIVE[0], index // 8 * NATIVE[1]))
        sheet.quantize(160, dither=Image.Dither.NONE).save(path, optimize=True)


GRID = [
    "a red apple, cartoon style, white background",
    "a panda, flat style, green background",
    "a rocket, cartoon style, black background",
    "a sunflower, cartoon style, blue background",
    "a penguin, flat style, pink background",
    "a grinning face, cartoon style, red background",
    "a watermelon, flat style, yellow background",
    "a robot, flat style, purple background",
    "a cat on the left, cartoon style, purple background",
    "a cat on the right, cartoon style, purple background",
    "a star on the left, flat style, blue background",
    "a heart on the right, flat style, black background",
    "a blue fish on the left, flat style, yellow background",
    "a golden owl, flat style, green background",
    "a purple octopus, cartoon style, white background",
    "a green frog, flat style, pink background",
    "a small bee, cartoon style, blue background",
    "a small house, cartoon style, green background",
    "a pizza, cartoon style, black background",
    "a carrot, flat style, white background",
    "a crown, cartoon style, purple background",
    "a mushroom, flat style, green background",
    "an airplane, cartoon style, blue background",
    "a cat and a dog, flat style, white background",
]
"""Prompts of the grid, read row by row."""


MEASUREMENTS = (
    *("classifier", "centred", "sided", "tinted", "negative"),
    *("negative_of_another", "centred_guidance_1", "autoencoder", "grid"),
)


def main() -> None:
    """Runs the measurements asked for, and merges them into the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS)
    parser.add_argument("--pocket", type=Path, default=POCKET, help="pipeline to measure")
    options = parser.parse_args()
    evaluation = Evaluation(options.work, options.pocket)
    for name in options.only:
        if name == "grid":
            evaluation.grid(options.pocket / "grid.png")
            continue
        result = getattr(evaluation, name)()
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(known | {name: result}, indent=2) + "\n")
        print(name, json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
