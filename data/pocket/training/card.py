"""Writes the model card, `../README.md`: `python data/pocket/training/card.py`.

Every figure comes from the log, the results, the calibration or the files themselves; none is typed
by hand, except those of the prototype, whose log was not kept. Exits with 1 and the command to run
where something was not measured on the weights that lie here.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import behaviour
import figures
from evaluate import ARM, FEW_STEPS, MEASUREMENTS
from icons import NAMES, STYLES
from safetensors import safe_open
from scenes import BACKGROUNDS, NATIVE, NORMAL, SIDED, SMALL, TINTS
from shards import POOLS
from sheets import COLUMNS, GRID
from subject import GUIDANCE, STEPS

from audit.calibration import FAR, FILE
from audit.prompt_judge import CARD, FOLDER, WEIGHTS
from audit.verdicts import GATES
from core.models import digest

HERE = Path(__file__).parent
POCKET = HERE.parent
TEMPLATE = HERE / "card.md"

PROTOTYPE = {"minutes": 57, "autoencoder_minutes": 9.5}
"""Training before this folder's log begins."""

LICENCES = {"cartoon": "Apache-2.0, Google's Noto Emoji", "flat": "MIT, Microsoft's Fluent Emoji"}

PARTS = {
    "text encoder": ("text_encoder/model", "`CLIPTextModel`, 4 layers × 128, 77 tokens", "fp32"),
    "UNet": (
        "unet/diffusion_pytorch_model",
        "`UNet2DConditionModel`, channels 64-96-128-192, cross-attention in three of four levels",
        "fp16, loads as fp32",
    ),
    "autoencoder": (
        "vae/diffusion_pytorch_model",
        "`AutoencoderKL`, factor 4, 4 latent channels, channels 32-64-64",
        "fp32",
    ),
}
"""Part → weights file, description, precision as stored."""


def parameters(path: Path) -> int:
    """Number of values in a safetensors file."""
    with safe_open(path, "pt") as file:
        shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    return sum(math.prod(shape) for shape in shapes)


def architecture() -> str:
    """The table of parts."""
    rows = []
    for part, (stem, what, precision) in PARTS.items():
        path = POCKET / f"{stem}.safetensors"
        size = f"{path.stat().st_size / 1e6:.1f} MB, {precision}"
        rows.append([part, what, f"{parameters(path) / 1e6:.2f} M", size])
    return figures.table(["part", "shape", "parameters", "file"], rows)


def pools(shards: int) -> str:
    """How many training pictures there were of each size, after so many shards."""
    return ", ".join(
        f"{shards * pool.pictures:,} of {pool.size[0]} × {pool.size[1]} px" for pool in POOLS
    )


def stages() -> str:
    """How long each stage of `train.py` took here, where its log was kept."""
    file = HERE / "minutes.jsonl"
    if not file.exists():
        return ""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [[line["stage"], f"{line['minutes']:.0f}"] for line in lines]
    return figures.table(["stage", "minutes by the clock"], rows) + "\n\n"


def upscaler() -> str:
    """Its figures, where one ships."""
    file = POCKET / "upscaler" / "figures.json"
    if not file.exists():
        return "None ships with these weights."
    found = read(file, "upscaler.py")
    return (
        f"`upscaler/model.safetensors` ({found['bytes']:,} bytes) doubles a picture: "
        f"{found['psnr_db']} dB on {found['pictures']} held-out renders, where bicubic "
        f"interpolation reaches {found['pillow_bicubic_psnr_db']} dB (Pillow's) and "
        f"{found['torch_bicubic_psnr_db']} dB (torch's). It was trained by `upscaler.py` on "
        f"{found['renders']} renders shrunk to half, not on pictures that the model drew."
    )


def behaved() -> str:
    """What an audit shows of the orders reported for real models, where one was looked at."""
    file = POCKET / "evaluation" / behaviour.FILE
    if not file.exists():
        return "No audit of these weights was looked at yet."
    found = read(file, "behaviour.py")
    if found["weights"] != digest(POCKET):
        sys.exit(f"{file.name} is of other weights: run behaviour.py on an audit of these")
    return behaviour.text(found)


def gates(document: dict[str, Any]) -> str:
    """Which limits the calibration moved."""
    moved = []
    for gate in GATES:
        made = document["gates"][gate.verdict]
        for sign, kind, start in (("≥", "at_least", gate.at_least), ("≤", "at_most", gate.at_most)):
            moved += [
                f"`{gate.verdict}`: {name} {sign} {limit:g} (from {start.get(name, 'none')})"
                for name, limit in made[kind].items()
                if limit != start.get(name)
            ]
    if not moved:
        return "These controls leave every gate at its starting value."
    return "Tightened by these controls: " + "; ".join(moved) + "."


def read(path: Path, script: str) -> dict[str, Any]:
    """A JSON document that a script has written."""
    if not path.exists():
        sys.exit(f"{path} is missing: run {script} first")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def current(
    log: list[dict[str, Any]],
    results: dict[str, Any],
    judge: dict[str, Any],
    document: dict[str, Any],
) -> None:
    """Exits where a figure is missing, or was measured on other weights or by another judge."""
    if "shards" not in log[-1]:
        sys.exit("the log ends before these scripts, and so does what the card would say of it")
    here = digest(POCKET)
    if results["weights"] != here or results["judge"] != judge["weights_sha256"]:
        sys.exit("the results are of other weights or of another judge: run evaluate.py again")
    if missing := [name for name in MEASUREMENTS if name not in results]:
        sys.exit(f"not measured yet: run evaluate.py --only {' '.join(missing)}")
    if document["controls"]["model_digest"] != here:
        sys.exit("the calibration is of other weights: run calibrate.py again")


def main() -> None:
    """Fills in the card."""
    log = [json.loads(line) for line in (HERE / "log.jsonl").read_text().splitlines()]
    results = read(POCKET / "evaluation" / "results.json", "evaluate.py")
    judge = read(POCKET / FOLDER / CARD, "judge.py")
    document = read(POCKET / FILE, "calibrate.py")
    current(log, results, judge, document)
    (POCKET / "README.md").write_text(filled(log, results, judge, document))


def filled(
    log: list[dict[str, Any]],
    results: dict[str, Any],
    judge: dict[str, Any],
    document: dict[str, Any],
) -> str:
    """The card's text."""
    weights = sum(path.stat().st_size for path in POCKET.rglob("*.safetensors"))
    controls = document["controls"]
    config = read(POCKET / "text_encoder" / "config.json", "train.py")
    intro = (
        f"The weights continue from a prototype (UNet: about {PROTOTYPE['minutes']} minutes on two "
        f"CPU cores; autoencoder: {PROTOTYPE['autoencoder_minutes']} minutes). After it, two "
        "processes on two shared CPU cores, Muon for matrices and Adam for the rest, 10 % caption "
        "dropout; the last line is that of these weights:"
    )
    return TEMPLATE.read_text().format(
        megabytes=f"{weights / 1e6:.0f}",
        names=", ".join(sorted(NAMES)),
        name_count=len(NAMES),
        styles=", ".join(STYLES),
        style_count=len(STYLES),
        backgrounds=", ".join(BACKGROUNDS),
        tints=", ".join(TINTS),
        tint_count=len(TINTS),
        native=f"{NATIVE[0]} × {NATIVE[1]}",
        tokens=f"{NATIVE[0] * NATIVE[1] // 16:,}",
        vocabulary=f"{config['vocab_size']:,}",
        goals=figures.goals(results),
        architecture=architecture(),
        data="\n".join(f"- `{s}`: `{package}` ({LICENCES[s]})" for s, package in STYLES.items()),
        normal=NORMAL,
        sided=SIDED,
        small=SMALL,
        pools=pools(log[-1]["shards"]),
        sittings=f"{intro}\n\n{figures.sittings(log)}",
        history=figures.history(log),
        stages=stages(),
        prompt_count=len(results["held_out"]["pictures"]),
        steps=STEPS,
        guidance=GUIDANCE,
        figures=figures.groups(results, judge),
        accepted="{right} of {of}".format(**judge["accepted"]),
        refused="{right} of {of}".format(**judge["refused"]),
        judge_bytes=(POCKET / FOLDER / WEIGHTS).stat().st_size,
        confusion=figures.confusion(results),
        arm=ARM,
        few_steps=FEW_STEPS,
        negatives=figures.negatives(results),
        sizes=figures.sizes(results),
        autoencoder=results["autoencoder"],
        colour_shift=", ".join(f"{x:g}" for x in results["autoencoder"]["colour_shift_levels"]),
        upscaler=upscaler(),
        calibrated_prompts=len(controls["prompts"]),
        calibrated_steps=controls["num_inference_steps"],
        calibrated_pairs=len(controls["pairs"][FAR]),
        calibration=figures.calibration(document),
        verdicts=figures.words(document),
        gates=gates(document),
        behaviour=behaved(),
        grid_seed=results["grid"]["seed"],
        prompts="\n".join(f"{index}. {prompt}" for index, prompt in enumerate(GRID, 1)),
        columns=COLUMNS,
        failures=figures.failures(results),
    )


if __name__ == "__main__":
    main()
