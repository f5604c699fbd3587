"""Writes the model card, `../README.md`, from the log, the evaluation and the files themselves.

`python data/pocket/training/card.py`: no figure in the card is typed by hand, except those of
the prototype, whose log was not kept.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from evaluate import CLOSE, GRID, GUIDANCE, HERE, POCKET, STEPS
from icons import NAMES, STYLES
from safetensors import safe_open
from scenes import BACKGROUNDS, NORMAL, SIDED, SMALL, TINTS

PROTOTYPE = {"minutes": 57, "autoencoder_minutes": 9.5}
"""Training before this folder's log begins."""

PICTURES = {64: 6000, 96: 4000, 128: 4000}
"""Training pictures of the shipped weights, by size: what `shards.POOLS` lists came after."""

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


def count(result: dict[str, int]) -> str:
    """`n / total`."""
    return f"{result['right']} / {result['of']}"


def architecture() -> str:
    """The table of parts."""
    rows = []
    for part, (stem, what, precision) in PARTS.items():
        path = POCKET / f"{stem}.safetensors"
        size = f"{parameters(path) / 1e6:.2f} M | {path.stat().st_size / 1e6:.1f} MB, {precision}"
        rows.append(f"| {part} | {what} | {size} |")
    return "\n".join(["| part | shape | parameters | file |", "|---|---|---|---|", *rows])


def figures(result: dict[str, Any]) -> str:
    """The table of measurements."""
    centred, free, sided, tinted = (
        result[key] for key in ("centred", "centred_guidance_1", "sided", "tinted")
    )
    five = f"{centred['object']['in_first_five']} / {centred['object']['of']}"
    rows = {
        "background is the palette colour asked for, object in the middle": (
            count(centred["background"]),
            count(free["background"]),
        ),
        f"object's mean colour within ΔE {CLOSE:.0f} of the icon's": (
            count(centred["object_colour"]),
            count(free["object_colour"]),
        ),
        "— the same against another object's icon (chance)": (
            count(centred["object_colour_of_another"]),
            count(free["object_colour_of_another"]),
        ),
        "object named right by the classifier (chance: 1 in 45)": (
            count(centred["object"]),
            count(free["object"]),
        ),
        "— right name among its first five": (
            five,
            f"{free['object']['in_first_five']} / {free['object']['of']}",
        ),
        "object on the side asked for": (count(sided["position"]), ""),
        "background, object on a side": (count(sided["background"]), ""),
        "object named right, on a side": (count(sided["object"]), ""),
        "tint nearest to the one asked for, of five (chance: 1 in 5)": (count(tinted["tint"]), ""),
        "object named right, tinted": (count(tinted["object"]), ""),
        "naming its background as negative prompt changes it": (count(result["negative"]), ""),
        "— naming another background as negative prompt changes it (control)": (
            count(result["negative_of_another"]),
            "",
        ),
    }
    lines = [f"| {what} | {five_} | {one} |" for what, (five_, one) in rows.items()]
    head = [f"| | guidance {GUIDANCE:.0f} | guidance 1 |", "|---|---|---|"]
    return "\n".join([*head, *lines])


def history(log: list[dict[str, Any]]) -> str:
    """Checkpoints as a table: minutes, pictures, loss by quarter of the noise steps."""
    step = max(1, len(log) // 8)
    kept = [*log[:-1:step], log[-1]]
    rows = [
        f"| {line['minutes']:.0f} | {line['steps']} | {line['pictures']:,} | "
        + " | ".join(f"{value:.3f}" for value in line["held_out_loss"])
        + " |"
        for line in kept
    ]
    head = [
        "| minutes | steps | pictures | least noise | | | most noise |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows])


def main() -> None:
    """Fills in the card."""
    log = [json.loads(line) for line in (HERE / "log.jsonl").read_text().splitlines()]
    result = json.loads((HERE / "evaluation.json").read_text())
    prompts = "\n".join(f"{index}. {prompt}" for index, prompt in enumerate(GRID, 1))
    weights = sum(path.stat().st_size for path in POCKET.rglob("*.safetensors"))
    pool = ", ".join(f"{number:,} at {size} px" for size, number in PICTURES.items())
    text = TEMPLATE.format(
        architecture=architecture(),
        megabytes=f"{weights / 1e6:.0f}",
        data="\n".join(
            f"- `{style}`: `{package}` ({LICENCES[style]})" for style, package in STYLES.items()
        ),
        pool=pool,
        prototype=PROTOTYPE["minutes"],
        vae_minutes=PROTOTYPE["autoencoder_minutes"],
        minutes=f"{log[-1]['minutes']:.0f}",
        total=f"{log[-1]['minutes'] + PROTOTYPE['minutes']:.0f}",
        pictures=f"{log[-1]['pictures']:,}",
        history=history(log),
        figures=figures(result),
        judge=count(result["classifier"]),
        psnr=result["autoencoder"]["psnr_db"],
        noisy=result["autoencoder"]["psnr_db_with_noise_of_0.1"],
        psnr_of=result["autoencoder"]["pictures"],
        names=", ".join(sorted(NAMES)),
        name_count=len(NAMES),
        styles=", ".join(STYLES),
        backgrounds=", ".join(BACKGROUNDS),
        tints=", ".join(TINTS),
        normal=NORMAL,
        sided=SIDED,
        small=SMALL,
        steps=STEPS,
        guidance=GUIDANCE,
        prompts=prompts,
    )
    (POCKET / "README.md").write_text(text)


TEMPLATE = (HERE / "card.md").read_text()
"""The card's words; `{{name}}` is filled in."""

if __name__ == "__main__":
    main()
