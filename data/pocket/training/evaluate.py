"""Measures the shipped model: `python data/pocket/training/evaluate.py --work DIR`.

The product's own engine, Euler, the committed prompts and seeds; the judge that lies beside the
model says what the pictures show. A run that was stopped goes on where it was. Writes
`results.json` and sheets of pictures beside the prompts, and `grid.png` beside the weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from icons import NAMES, STYLES, load_icons
from PIL import Image
from prompts import held_out_background, held_out_pairs, held_out_prompts, pair_scene
from scenes import BACKGROUNDS, Scene, Size, Thing
from sheets import GRID, sheet
from subject import GUIDANCE, STEPS, Subject
from vae import held_out_pictures, psnr

from audit.metrics import Rgb
from audit.prompt_judge import PromptJudge, load_judge
from audit.prompt_words import asked

POCKET = Path(__file__).parent.parent
FEW_STEPS = 10
"""Of the comparisons with and without a negative prompt."""
ARM = 300
"""Pictures per arm of such a comparison."""
SIZES: tuple[Size, ...] = ((256, 128), (128, 256), (256, 256))
"""Twice the native size in either direction and in both."""


class Evaluation:
    """The measurements, each a method that returns counts."""

    def __init__(self, work: Path, subject: Subject, judge: PromptJudge, out: Path) -> None:
        self.work, self.subject, self.judge, self.out = work, subject, judge, out

    def held_out(self) -> dict[str, Any]:
        """The 300 prompts: for each picture what was seen, and what of its prompt it shows."""
        prompts = held_out_prompts()
        scenes = [prompt.scene for prompt in prompts]
        texts, seeds = [scene.caption for scene in scenes], [prompt.seed for prompt in prompts]
        pictures = self.subject.pictures("held-out", texts, seeds)
        rows = [
            {"group": prompt.group, "seed": prompt.seed} | self.judged(picture, prompt.scene)
            for prompt, picture in zip(prompts, pictures, strict=True)
        ]
        failed = [p for p, row in zip(pictures, rows, strict=True) if not row["shows"]["object"]]
        sheet(failed, self.out / "failures.png")
        return {"steps": STEPS, "guidance": GUIDANCE, "pictures": rows}

    def judged(self, picture: Image.Image, scene: Scene) -> dict[str, Any]:
        """One picture beside what was asked for."""
        wanted = asked(scene.caption, self.judge.words)
        if wanted is None:
            raise ValueError(f"the judge cannot read {scene.caption!r}")
        pixels = array(picture)
        return {
            "prompt": scene.caption,
            "asked": [thing.name for thing in scene.things],
            "seen": [seen.name for seen in self.judge.seen(pixels, len(scene.things))],
            "shows": self.judge.verdicts(pixels, wanted),
        }

    def sizes(self) -> dict[str, Any]:
        """Every third name at sizes beyond the native one, on its held-out background."""
        names, styles = NAMES[::3], list(STYLES)
        scenes = [
            Scene((Thing(name),), styles[i % 2], held_out_background(name))
            for i, name in enumerate(names)
        ]
        texts, seeds = [scene.caption for scene in scenes], list(range(7000, 7000 + len(scenes)))
        result: dict[str, Any] = {"steps": STEPS, "guidance": GUIDANCE, "pictures": {}}
        shown: list[Image.Image] = []
        for size in SIZES:
            made = self.subject.pictures("size", texts, seeds, size=size)
            shown += made[:4]
            result["pictures"][f"{size[0]}x{size[1]}"] = [
                self.judged(picture, scene) for picture, scene in zip(made, scenes, strict=True)
            ]
        sheet(shown, self.out / "sizes.png", columns=4)
        return result

    def negative_object(self) -> dict[str, Any]:
        """Of two objects the right one is named as a negative prompt: how often is it there?"""
        scenes = two_objects(ARM)
        named = [scene.things[1].name for scene in scenes]
        kept = [scene.things[0].name for scene in scenes]
        texts, seeds = [scene.caption for scene in scenes], list(range(5000, 5000 + ARM))
        result: dict[str, Any] = {"steps": FEW_STEPS, "guidance": GUIDANCE, "pictures": ARM}
        for arm, negative in (("without", None), ("with", named)):
            made = self.subject.pictures(f"two-{arm}", texts, seeds, FEW_STEPS, negative=negative)
            seen = [{one.name for one in self.judge.seen(array(p), 2)} for p in made]
            result[arm] = {
                "named": sum(name in found for name, found in zip(named, seen, strict=True)),
                "other": sum(name in found for name, found in zip(kept, seen, strict=True)),
            }
        return result

    def negative_background(self) -> dict[str, Any]:
        """The prompt leaves the background open, and one of the eight is a negative prompt."""
        scenes, named = open_backgrounds(ARM)
        texts, seeds = [scene.caption for scene in scenes], list(range(6000, 6000 + ARM))
        result: dict[str, Any] = {"steps": FEW_STEPS, "guidance": GUIDANCE, "pictures": ARM}
        for arm, negative in (("without", None), ("with", [f"{g} background" for g in named])):
            made = self.subject.pictures(f"open-{arm}", texts, seeds, FEW_STEPS, negative=negative)
            found = [self.judge.background(array(picture)) for picture in made]
            result[arm] = {
                "named": sum(f == n for f, n in zip(found, named, strict=True)),
                "frequency": dict(Counter(found).most_common()),
            }
        return result

    def autoencoder(self) -> dict[str, Any]:
        """PSNR in dB and the mean error of each channel in levels on held-out renders, as they are
        and with noise on the latents."""
        pictures = held_out_pictures(load_icons(self.work))
        vae = AutoencoderKL.from_pretrained(self.subject.model.path / "vae")
        clean, noisy = (round(psnr(vae, pictures, noise), 2) for noise in (0.0, 0.1))
        with torch.no_grad():
            made = torch.cat(
                [vae.decode(vae.encode(b).latent_dist.mean).sample for b in pictures.split(8)]
            )
        shift = (127.5 * (made.clamp(-1, 1) - pictures)).mean((0, 2, 3)).tolist()
        return {
            "psnr_db": clean,
            "psnr_db_with_noise_of_0.1": noisy,
            "colour_shift_levels": [round(value, 2) for value in shift],
            "pictures": len(pictures),
        }

    def grid(self) -> dict[str, Any]:
        """24 pictures of one seed, beside the weights."""
        made = self.subject.pictures("grid", list(GRID), [7] * len(GRID))
        sheet(made, self.subject.model.path / "grid.png")
        return {"seed": 7, "steps": STEPS, "guidance": GUIDANCE}


def two_objects(count: int) -> list[Scene]:
    """Held-out pairs, every one in its turn: 11 has no divisor in common with their number."""
    pairs, grounds, styles = held_out_pairs(), list(BACKGROUNDS), list(STYLES)
    return [
        pair_scene(*pairs[11 * i % len(pairs)], styles[i % 2], grounds[i // 2 % len(grounds)])
        for i in range(count)
    ]


def open_backgrounds(count: int) -> tuple[list[Scene], list[str]]:
    """Single things in both styles whose captions name no background, and one to name instead."""
    grounds, styles = list(BACKGROUNDS), list(STYLES)
    scenes = [
        # Its own background says nothing: the caption does not tell it.
        Scene((Thing(NAMES[i % len(NAMES)]),), styles[i // len(NAMES) % 2], "", (True, False))
        for i in range(count)
    ]
    return scenes, [grounds[i * 3 % len(grounds)] for i in range(count)]


def array(picture: Image.Image) -> Rgb:
    """RGB (height, width, 3)."""
    return np.asarray(picture.convert("RGB"))


MEASUREMENTS = (
    *("autoencoder", "grid", "held_out"),
    *("sizes", "negative_background", "negative_object"),
)


def main() -> None:
    """Runs the measurements asked for, and merges them into the results of the same weights and
    the same judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS)
    parser.add_argument("--pocket", type=Path, default=POCKET, help="pipeline to measure")
    parser.add_argument("--judged-by", type=Path, default=POCKET, help="model folder of the judge")
    parser.add_argument("--out", type=Path, default=POCKET / "evaluation", help="results")
    options = parser.parse_args()
    try:
        judge = load_judge(options.judged_by)
    except ValueError as error:
        sys.exit(f"{options.judged_by}: {error}; run judge.py again")
    if judge is None:
        sys.exit(f"{options.judged_by} has no judge: run judge.py first")
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    subject = Subject(options.pocket, options.work)
    evaluation = Evaluation(options.work, subject, judge, options.out)
    path = options.out / "results.json"
    made_by = {"weights": subject.model.digest, "judge": judge.weights_sha256}
    for name in options.only:
        begun = time.monotonic()
        result = getattr(evaluation, name)()
        known = json.loads(path.read_text()) if path.exists() else {}
        if any(known.get(key) != value for key, value in made_by.items()):
            known = made_by
        path.write_text(json.dumps(known | {name: result}, indent=1) + "\n")
        took = (time.monotonic() - begun) / 60
        print(f"{name}: {took:.1f} minutes in this sitting; {json.dumps(result)[:400]}", flush=True)


if __name__ == "__main__":
    main()
