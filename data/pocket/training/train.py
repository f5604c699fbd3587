"""Trains the shipped model: `python data/pocket/training/train.py --work DIR --minutes N`.

Run again with the same `--work` to resume; a larger `--minutes` goes on. `--from` starts from a
pipeline's weights instead of from nothing; `--out` is where the result goes in the end.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from icons import load_icons
from model import load_parts, save_parts
from scenes import draw
from shards import scenes_for, to_tensor
from unet import Training, train_unet
from vae import held_out_pictures, psnr, settle_latents, start_as_identity, train_vae

HERE = Path(__file__).parent
STAGES = ("start", "decoder", "unet", "publish")


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
    pictures = to_tensor([draw(scene, icons, 64, rng) for scene in scenes_for(64, 1, 200)])
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


def main() -> None:
    """Reads the command line and runs every stage that is not done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder")
    parser.add_argument("--minutes", type=float, default=90, help="of UNet training, in total")
    parser.add_argument("--vae-minutes", type=float, default=20, help="for a new autoencoder")
    parser.add_argument("--decoder-minutes", type=float, default=6, help="for its decoder, after")
    parser.add_argument("--from", dest="source", type=Path, help="pipeline to start from")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--log", type=Path, default=HERE / "log.jsonl")
    parser.add_argument("--out", type=Path, help="pipeline folder to write (default: none)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if "start" in options.stages:
        start(options.work, options.source, options.vae_minutes)
    if "decoder" in options.stages:
        tune_decoder(options.work, options.decoder_minutes)
    if "unet" in options.stages:
        where = (options.work, options.work / "start", options.log)
        train_unet(Training(*where, options.minutes, options.rate))
    if "publish" in options.stages and options.out:
        publish(options.work, options.out)


if __name__ == "__main__":
    main()
