"""The autoencoder between pixels and latents, trained before the UNet, its decoder again after.

Fine-tuning touches the decoder only, so that latents, and with them the UNet, stay valid.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from icons import Icons
from scenes import NATIVE, draw
from shards import held_out_scenes, scenes_for, to_tensor
from torch import Tensor, nn

CROP = 64
"""Side of a training crop in pixels."""


@torch.no_grad()
def start_as_identity(vae: AutoencoderKL) -> None:
    """Makes an untrained autoencoder shrink and enlarge pictures, which training then refines.

    Residual branches begin at zero. Channels 0–2 carry RGB and 3–5 its negative, so that SiLU in
    front of the last convolution loses nothing: silu(x) − silu(−x) = x.
    """
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
            if module.conv_shortcut is not None:
                pass_through(module.conv_shortcut, 6, 1)
        elif isinstance(module, Downsample2D):
            pass_through(module.conv, 6, 2)
        elif isinstance(module, Upsample2D):
            pass_through(module.conv, 6, 1)
    for half in (vae.encoder, vae.decoder):
        pass_through(half.conv_in, 6, 1)
        half.conv_in.weight[3:6, :3] = -half.conv_in.weight[:3, :3]
        half.conv_in.weight[3:6, 3:] = 0
        pass_through(half.conv_out, 3, 1)
        half.conv_out.weight[:3, 3:6] = -half.conv_out.weight[:3, :3]
    vae.encoder.conv_out.weight[4:] = 0
    vae.encoder.conv_out.bias[4:] = -4.0
    for convolution in (vae.quant_conv, vae.post_quant_conv):
        nn.init.dirac_(convolution.weight)
        nn.init.zeros_(convolution.bias)


def pass_through(convolution: nn.Conv2d, channels: int, block: int) -> None:
    """Sets the first channels to copy their input, averaged over block × block pixels."""
    weight, size = convolution.weight, convolution.kernel_size[0]
    weight[:channels] = 0
    taps = slice(0, 2) if block == 2 else slice(size // 2, size // 2 + 1)
    for channel in range(min(channels, weight.shape[1])):
        weight[channel, channel, taps, taps] = 1 / block**2
    if convolution.bias is not None:
        convolution.bias[:channels] = 0


@torch.no_grad()
def even_out(vae: AutoencoderKL, spread: Tensor) -> None:
    """Scales latent channels that vary much less than the others, without changing any picture.

    A weak channel drowns in the noise that all channels get, and the decoder then amplifies the
    UNet's errors in it. `spread` (channels,) is the latents' standard deviation; the factor goes
    into the convolutions on either side of the latents.
    """
    for channel, value in enumerate(spread.tolist()):
        factor = spread.median().item() / value
        if factor > 2:
            vae.quant_conv.weight[channel] *= factor
            vae.quant_conv.bias[channel] *= factor
            vae.quant_conv.bias[channel + len(spread)] += 2 * math.log(factor)
            vae.post_quant_conv.weight[:, channel] /= factor


@torch.no_grad()
def settle_latents(vae: AutoencoderKL, pictures: Tensor, new: bool) -> None:
    """Evens out the channels; a new autoencoder also gets the scaling factor that makes its
    latents spread by 1. An old one keeps its own, which its UNet knows."""
    for step in range(1 + new):
        latents = torch.cat([vae.encode(batch).latent_dist.mean for batch in pictures.split(8)])
        if step == 0:
            even_out(vae, latents.std((0, 2, 3)))
        else:
            vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))


def crops(icons: Icons, batch: int, rng: random.Random) -> Iterator[Tensor]:
    """Batches (n, 3, CROP, CROP) cut at random out of native training scenes."""
    while True:
        pictures = []
        for scene in scenes_for(rng.getrandbits(32), batch):
            x, y = (rng.randint(8, side - CROP - 8) for side in NATIVE)
            pictures.append(draw(scene, icons, NATIVE, rng).crop((x, y, x + CROP, y + CROP)))
        yield to_tensor(pictures)


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Squared error for the PSNR, plus absolute errors of pixels and edges for clean outlines."""
    error = made - wanted
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return 4 * error.square().mean() + error.abs().mean() + 0.5 * edges


def train_vae(
    vae: AutoencoderKL, icons: Icons, minutes: float, decoder_only: bool, rate: float = 5e-4
) -> None:
    """Trains in place for some minutes of work, the learning rate falling to zero.

    The decoder sees latents with up to 15 % of noise added: the UNet's are never exact, and a
    decoder that has met small errors smooths them instead of turning them into speckle.
    """
    scaling = vae.config.scaling_factor
    trained = [vae.decoder, vae.post_quant_conv] if decoder_only else [vae]
    vae.requires_grad_(False)
    for module in trained:
        module.requires_grad_(True)
    parameters = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.99))
    average = [p.detach().clone() for p in parameters]
    worked = 0.0
    for number, pictures in enumerate(crops(icons, 8, random.Random(11)), 1):
        begun = time.monotonic()
        progress = worked / (60 * minutes)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, number / 50) * 0.5 * (1 + math.cos(math.pi * progress))
        posterior = vae.encode(pictures).latent_dist
        latents = posterior.mean if decoder_only else posterior.sample()
        amount = 0.15 * torch.rand(len(pictures), 1, 1, 1) / scaling
        noisy = latents + amount * torch.randn_like(latents)
        loss = reconstruction_loss(vae.decode(noisy).sample, pictures)
        if not decoder_only:
            loss = loss + 2e-4 * posterior.kl().mean() / latents[0].numel()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            for mean, parameter in zip(average, parameters, strict=True):
                mean.lerp_(parameter, 1 - min(0.995, (1 + number) / (10 + number)))
        worked += min(2.0, time.monotonic() - begun)
        if number % 50 == 0:
            print(f"vae: step {number}, {worked:.0f} s, loss {loss.item():.4f}", flush=True)
    with torch.no_grad():
        for mean, parameter in zip(average, parameters, strict=True):
            parameter.copy_(mean)
    vae.requires_grad_(True)


@torch.no_grad()
def psnr(vae: AutoencoderKL, pictures: Tensor, noise: float = 0.0) -> float:
    """Mean over pictures of the PSNR in dB after encoding, adding `noise` (in units of the scaled
    latents, whose spread is about 0.5–1.4) and decoding."""
    values = []
    generator = torch.Generator().manual_seed(0)
    for batch in pictures.split(8):
        latents = vae.encode(batch).latent_dist.mean
        added = torch.randn(latents.shape, generator=generator) * noise / vae.config.scaling_factor
        made = vae.decode(latents + added).sample.clamp(-1, 1)
        errors = F.mse_loss(made, batch, reduction="none").mean((1, 2, 3))
        values += (10 * torch.log10(4 / errors)).tolist()
    return float(sum(values) / len(values))


def held_out_pictures(icons: Icons, count: int = 64) -> Tensor:
    """Native scenes (n, 3, 128, 128) with pairings that no training ever drew."""
    rng = random.Random(5)
    return to_tensor([draw(s, icons, NATIVE, rng) for s in held_out_scenes(5, count)])
