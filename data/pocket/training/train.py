"""Trains the shipped model: `python data/pocket/training/train.py --work DIR --minutes N`.

Run again with the same `--work` to go on for another `--minutes`. `--from` starts from a
pipeline's weights instead of from nothing; `--out` is where the result goes in the end.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from icons import load_icons
from model import load_parts, save_parts
from scenes import draw
from shards import ONE, scenes_for, to_tensor
from unet import Training, train_unet
from vae import held_out_pictures, psnr, settle_latents, start_as_identity, train_vae

HERE = Path(__file__).parent
STAGES = ("start", "decoder", "unet", "cooldown", "publish")


def start(work: Path, source: Path | None, minutes: float) -> None:
    """The pipeline that training starts from; a new autoencoder is trained here for `minutes`.

    Latents are fixed from then on, as are the shards made of them.
    """
    folder = work / "start"
    if folder.exists():
        return
    parts = load_parts(source or folder)
    icons = load_icons(work)
    rng = random.Random(1)
    pictures = to_tensor([draw(scene, icons, (64, 64), rng) for scene in scenes_for(1, 200, ONE)])
    if source is None:
        start_as_identity(parts.vae)
        train_vae(parts.vae, icons, minutes, decoder_only=False, rate=1e-3)
    settle_latents(parts.vae, pictures, new=source is None)
    save_parts(parts, folder)


def tune_decoder(work: Path, minutes: float) -> None:
    """A better decoder for the same latents, in `work/vae`."""
    folder = work / "vae"
    if folder.exists():
        return
    vae = load_parts(work / "start").vae
    icons = load_icons(work)
    pictures = held_out_pictures(icons)
    print("psnr before", psnr(vae, pictures), psnr(vae, pictures, 0.1), flush=True)
    train_vae(vae, icons, minutes, decoder_only=True)
    print("psnr after", psnr(vae, pictures), psnr(vae, pictures, 0.1), flush=True)
    vae.save_pretrained(folder)


def publish(work: Path, out: Path) -> None:
    """The averaged UNet and text encoder with the tuned decoder, as one pipeline."""
    parts = load_parts(work / "pipeline")
    if (work / "vae").exists():
        parts.vae = AutoencoderKL.from_pretrained(work / "vae")
    save_parts(parts, out)


@contextmanager
def timed(stage: str, work: Path) -> Iterator[None]:
    """Notes in `work/minutes.jsonl` how long a stage took by the clock, and says it."""
    begun = time.monotonic()
    yield
    line = {"stage": stage, "minutes": round((time.monotonic() - begun) / 60, 2)}
    with (work / "minutes.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)


def main() -> None:
    """Reads the command line and runs every stage that is not done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--minutes", type=float, default=90, help="of UNet training, more")
    parser.add_argument("--cooldown-minutes", type=float, default=15, help="of it, after that")
    parser.add_argument("--vae-minutes", type=float, default=20, help="for a new autoencoder")
    parser.add_argument("--decoder-minutes", type=float, default=6, help="for its decoder, after")
    parser.add_argument("--from", dest="source", type=Path, help="pipeline to start from")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="learning rate")
    parser.add_argument("--bfloat16", action="store_true", help="for CPUs with such instructions")
    parser.add_argument("--log", type=Path, default=HERE / "log.jsonl")
    parser.add_argument("--out", type=Path, help="pipeline folder to write (default: none)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for stage in (stage for stage in STAGES if stage in options.stages):
        with timed(stage, options.work):
            run(stage, options)


def run(stage: str, options: argparse.Namespace) -> None:
    """One stage."""
    if stage == "start":
        start(options.work, options.source, options.vae_minutes)
    elif stage == "decoder":
        tune_decoder(options.work, options.decoder_minutes)
    elif stage == "publish":
        if options.out:
            publish(options.work, options.out)
    else:
        cooldown = stage == "cooldown"
        training = Training(
            work=options.work,
            start=options.work / "start",
            log=options.log,
            minutes=options.cooldown_minutes if cooldown else options.minutes,
            rate=options.rate,
            cooldown=cooldown,
            bfloat16=options.bfloat16,
        )
        train_unet(training)


if __name__ == "__main__":
    main()
