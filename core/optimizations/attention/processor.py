"""Puts a backend's kernel into the attention layers of the UNet and the VAE, for one job."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch

from core.optimization import Optimization
from core.optimizations.attention.backend import Backend
from core.optimizations.attention.observation import Observation
from core.optimizations.attention.slicing import Part
from core.optimizations.slice_budget import chosen_budget, conclude
from core.record import Record
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from diffusers.models.attention_processor import Attention


class Processor:
    """A diffusers attention processor around one kernel.

    Around the kernel it does what `AttnProcessor2_0` does, so that with the kernel of `sdp` it
    gives the same bits.
    """

    def __init__(self, part: Part, observation: Observation) -> None:
        self.part = part
        self.observation = observation

    def __call__(
        self,
        attn: "Attention",
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(batch, tokens, channels) in the UNet, (batch, channels, height, width) in the VAE."""
        if attention_mask is not None:
            raise ValueError("attention masks are not part of text-to-image attention")
        residual = hidden_states
        if hidden_states.ndim == 4:
            hidden_states = hidden_states.flatten(2).transpose(1, 2)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = _split_heads(attn.to_q(hidden_states), attn.heads)
        key = _split_heads(attn.to_k(context), attn.heads)
        value = _split_heads(attn.to_v(context), attn.heads)
        scale = 1 / math.sqrt(query.shape[-1])
        out = self.observation.call(self.part, query, key, value, scale)
        out = out.transpose(1, 2).flatten(2)
        for layer in attn.to_out:
            out = layer(out)
        if residual.ndim == 4:
            out = out.transpose(1, 2).reshape(residual.shape)
        if attn.residual_connection:
            out = out + residual
        rescaled: torch.Tensor = out / attn.rescale_output_factor
        return rescaled


def _split_heads(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """(batch, tokens, heads * head_dim) → (batch, heads, tokens, head_dim), as a view."""
    batch, count, channels = tokens.shape
    return tokens.view(batch, count, heads, channels // heads).transpose(1, 2)


def optimization(backend: Backend) -> Optimization:
    """The backend as an option of the attention slot."""
    return Optimization(
        slot="attention",
        name=backend.name,
        summary=backend.summary,
        changes=backend.changes,
        needs=backend.needs,
        probe=backend.probe,
        patch=partial(patched, backend, ""),
    )


@contextmanager
def patched(
    backend: Backend,
    preface: str,
    pipeline: "StableDiffusionPipeline",
    job: Job,
    parameter: float | None,
    record: Record,
) -> Iterator[None]:
    """Replace the processors of all plain attention layers, then put the same objects back.

    It uses the job's slice budget and concludes that slot too. `preface` begins the reason of the
    effect.
    """
    notes = record.slot("attention", job.configuration.get("attention"))
    observation = Observation(backend, chosen_budget(job.configuration))
    closing = ""
    former = []
    try:
        for part, layer in _attention_layers(pipeline):
            if part not in backend.parts:
                notes.counts[f"{part}_layers_left_alone"] += 1
                kept = type(layer.processor).__name__
                closing = f"; {backend.name} leaves the {part.upper()} alone, which keeps {kept}"
            elif not _is_plain(layer):
                notes.counts["layers_left_alone"] += 1
            else:
                former.append((layer, layer.processor))
                layer.set_processor(Processor(part, observation))
        yield
    finally:
        for layer, processor in former:
            layer.set_processor(processor)
        observation.conclude(notes, preface, closing)
        if (budget := job.configuration.get("slice-budget")) != "off":
            conclude(record.slot("slice-budget", budget), backend.name, observation.allowances)


def _attention_layers(
    pipeline: "StableDiffusionPipeline",
) -> Iterator[tuple[Part, "Attention"]]:
    from diffusers.models.attention_processor import Attention

    parts: tuple[tuple[Part, torch.nn.Module], ...] = (
        ("unet", pipeline.unet),
        ("vae", pipeline.vae),
    )
    for part, model in parts:
        for layer in model.modules():
            if isinstance(layer, Attention):
                yield part, layer


def _is_plain(layer: "Attention") -> bool:
    """Whether a layer is what Stable Diffusion 1.x has; adapters bring processors of their own."""
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

    extras = (layer.spatial_norm, layer.norm_q, layer.norm_k, layer.norm_cross)
    return type(layer.processor) in (AttnProcessor, AttnProcessor2_0) and not any(
        extra is not None for extra in extras
    )
