"""Calibrates the drift verdicts on the shipped model:
`python data/pocket/training/calibrate.py --work DIR` (run again to go on).

Pictures of held-out prompts are made again with one latent moved by one unit in the last place, and
with other seeds; pictures of other prompts stand beside them. Writes `../calibration.json`: every
pair by every metric, and what `audit.calibration` computes from them, the gates above all.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from prompts import held_out_prompts
from scenes import NATIVE
from subject import GUIDANCE, Subject

from audit.calibration import FAR, FILE, NEAR, Calibration, Measured, summary
from audit.metrics import measure

POCKET = Path(__file__).parent.parent
PROMPTS, FIRST_SEED, STEPS = 30, 2000, 8
"""Steps as in the quick plan, whose verdicts these gates give."""
NUDGED = (0, 1500, 3000)
"""Flat indices of the latent that is moved."""
OTHER_SEEDS = (1, 2, 3)
"""Added to a prompt's own seed; prompts are farther apart."""
OTHER_PROMPTS = (1, 7, 13)
"""Distances in the list of prompts; with 30 of them no pair is taken twice."""


def texts(count: int) -> list[str]:
    """Prompts of every group, in both styles."""
    every = held_out_prompts()
    return [every[i * len(every) // count + i % 2].scene.caption for i in range(count)]


def pairs(a: list[Image.Image], b: list[Image.Image]) -> list[Measured]:
    """Every metric of every pair, in six decimals: what is published is what is computed with."""
    return [
        {name: round(value, 6) for name, value in measure(np.asarray(x), np.asarray(y)).items()}
        for x, y in zip(a, b, strict=True)
    ]


def controls(subject: Subject, count: int, steps: int) -> Calibration:
    """The baseline beside its nudges, its other seeds and its other prompts."""
    prompts, seeds = texts(count), [FIRST_SEED + 10 * i for i in range(count)]
    start = subject.pictures("calibration", prompts, seeds, steps)
    nudged = (
        subject.pictures(f"calibration-nudge-{index}", prompts, seeds, steps, nudge=index)
        for index in NUDGED
    )
    seeded = (
        subject.pictures(f"calibration-seed-{more}", prompts, [s + more for s in seeds], steps)
        for more in OTHER_SEEDS
    )
    prompted = (start[step:] + start[:step] for step in OTHER_PROMPTS if step < count)
    groups = {NEAR: nudged, FAR: seeded, "other-prompt": prompted}
    return Calibration(
        model_digest=subject.model.digest,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        width=NATIVE[0],
        height=NATIVE[1],
        prompts=tuple(prompts),
        pairs={
            name: tuple(chain.from_iterable(pairs(start, other) for other in others))
            for name, others in groups.items()
        },
    )


def main() -> None:
    """Makes what is missing, and writes the calibration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--pocket", type=Path, default=POCKET, help="model to calibrate on")
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=POCKET / FILE)
    options = parser.parse_args()
    subject = Subject(options.pocket, options.work)
    calibration = controls(subject, options.prompts, options.steps)
    made = summary(calibration)
    content = json.dumps({"controls": asdict(calibration), **made}, indent=1)
    options.out.write_text(content + "\n")
    print(json.dumps({key: made[key] for key in ("gates", "words")}, indent=1))


if __name__ == "__main__":
    main()
