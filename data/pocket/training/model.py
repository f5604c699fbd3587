"""The parts of the pipeline: their shapes, and how they are loaded and saved."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizer import LENGTH, load_tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WIDTHS = (64, 96, 128, 192)
TEXT_WIDTH = 128

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}
"""Stable Diffusion's noise schedule, with the velocity as target (Salimans & Ho 2022)."""


def new_unet() -> UNet2DConditionModel:
    """SD 1.x's UNet, small: 10.4 M parameters; cross-attention in three of its four levels."""
    return UNet2DConditionModel(
        sample_size=32,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=4,
        block_out_channels=WIDTHS,
        attention_head_dim=[2, 3, 4, 6],
        down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """CLIP's text model, small: 4 layers of 128, 0.96 M parameters, trained with the UNet."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_vae() -> AutoencoderKL:
    """A KL autoencoder of factor 4 with 4 latent channels: 0.92 M parameters, no attention."""
    return AutoencoderKL(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=1,
        latent_channels=4,
        mid_block_add_attention=False,
        sample_size=128,
    )


@dataclass
class Parts:
    """What a pipeline is made of, everything in float32."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL

    def pipeline(self) -> StableDiffusionPipeline:
        """A Stable Diffusion pipeline. `clip_sample` is said because a DDIM scheduler built from
        this configuration would otherwise clip latents to ±1."""
        scheduler = EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="leading", steps_offset=1)
        scheduler.register_to_config(clip_sample=False)
        return StableDiffusionPipeline(
            tokenizer=self.tokenizer,
            text_encoder=self.text_encoder,
            unet=self.unet,
            vae=self.vae,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def load_parts(folder: Path) -> Parts:
    """The parts found in a pipeline's folder; those that are missing start from nothing."""
    tokenizer = load_tokenizer(folder / "tokenizer")
    text = folder / "text_encoder"
    unet = folder / "unet"
    vae = folder / "vae"
    return Parts(
        tokenizer,
        CLIPTextModel.from_pretrained(text, dtype=torch.float32)
        if text.exists()
        else new_text_encoder(tokenizer),
        UNet2DConditionModel.from_pretrained(unet).float() if unet.exists() else new_unet(),
        AutoencoderKL.from_pretrained(vae) if vae.exists() else new_vae(),
    )


def save_parts(parts: Parts, folder: Path) -> None:
    """Writes the pipeline's folder in one move per part, so that readers never meet half a file.

    The UNet is stored as float16 (half the download; `from_pretrained` widens it to float32).
    """
    fresh = folder.parent / f".{folder.name}-fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    pipeline = parts.pipeline()
    pipeline.save_pretrained(fresh)
    half = {name: value.half() for name, value in parts.unet.state_dict().items()}
    save_half(half, fresh / "unet" / "diffusion_pytorch_model.safetensors")
    for path in fresh.rglob("*.json"):
        forget_places(path)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(p for p in fresh.rglob("*") if p.is_file()):
        target = folder / path.relative_to(fresh)
        target.parent.mkdir(exist_ok=True)
        path.chmod(0o644)
        path.replace(target)
    shutil.rmtree(fresh)


def forget_places(path: Path) -> None:
    """Drops from a configuration where its part was loaded from, and a stored truncation."""
    content = json.loads(path.read_text())
    if path.name in ("config.json", "model_index.json", "tokenizer_config.json"):
        for key in ("_name_or_path", "is_local", "local_files_only", "max_length"):
            content.pop(key, None)
        path.write_text(json.dumps(content, indent=2) + "\n")


def save_half(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """A safetensors file of contiguous tensors, marked as diffusers marks its own."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata={"format": "pt"})
