"""Prompts → text embeddings."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from core.chunks import BatchTexts, Chunk, Text, batch_texts
from core.record import Record
from core.request import Request

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def encode(
    pipeline: "StableDiffusionPipeline",
    requests: tuple[Request, ...],
    record: Record,
) -> torch.Tensor:
    """Text embeddings (rows, 77 · chunks, width): where there is guidance, the negative prompts'
    rows first.

    Every chunk is encoded by itself, between a begin and an end of its own. Prompts of fewer
    chunks than the batch's longest are padded with empty ones, as AUTOMATIC1111 does with
    `Pad conds`. One chunk without weights has the bits of diffusers' own encoding. The record says
    how long every prompt is, and what of it did not reach the picture.
    """
    texts = batch_texts(pipeline.tokenizer, requests)
    _note(texts, record)
    halves = (texts.negative_prompts, texts.prompts)
    return torch.cat([_embedded(pipeline, half, texts.chunks) for half in halves if half])


def _embedded(
    pipeline: "StableDiffusionPipeline", texts: Sequence[Text], chunks: int
) -> torch.Tensor:
    """(texts, 77 · chunks, width)"""
    parts = []
    for place in range(chunks):
        batch = [text.chunks[place] if place < len(text.chunks) else Chunk() for text in texts]
        hidden = _hidden_states(pipeline, batch)
        rows = [_weighted(row, chunk) for row, chunk in zip(hidden, batch, strict=True)]
        parts.append(torch.stack(rows))
    return torch.cat(parts, dim=1)


def _hidden_states(pipeline: "StableDiffusionPipeline", batch: Sequence[Chunk]) -> torch.Tensor:
    """The text encoder's last hidden states, (chunks, 77, width), in its own dtype."""
    tokenizer, encoder = pipeline.tokenizer, pipeline.text_encoder
    begin, end, padding = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    room = tokenizer.model_max_length - 2
    ids = [[begin, *chunk.tokens, end, *[padding] * (room - len(chunk.tokens))] for chunk in batch]
    mask = None
    if getattr(encoder.config, "use_attention_mask", False):
        read = [len(chunk.tokens) + 2 for chunk in batch]
        mask = torch.tensor([[int(n < count) for n in range(room + 2)] for count in read])
        mask = mask.to(pipeline._execution_device)
    hidden = encoder(torch.tensor(ids).to(pipeline._execution_device), attention_mask=mask)[0]
    states: torch.Tensor = hidden.to(encoder.dtype)
    return states


def _weighted(hidden: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    """Every token's row (77, width) times its weight, then all of them so that their mean is what
    it was: AUTOMATIC1111's `Original` emphasis.

    Computed in float32 at least. Raises ValueError where the weighted rows have no mean to restore.
    """
    if all(weight == 1 for weight in chunk.weights):
        return hidden
    exact = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    weights = torch.ones(len(hidden), dtype=exact.dtype, device=exact.device)
    weights[1 : len(chunk.weights) + 1] = weights.new_tensor(chunk.weights)
    scaled = exact * weights[:, None]
    restored = (scaled * (exact.mean() / scaled.mean())).to(hidden.dtype)
    if not restored.isfinite().all():
        raise ValueError(
            "The weights in a prompt lead to numbers that are not finite: write weights nearer "
            "to 1."
        )
    return restored


def _note(texts: BatchTexts, record: Record) -> None:
    record.prompts = tuple(text.size(texts.chunks) for text in texts.prompts)
    record.negative_prompts = tuple(text.size(texts.chunks) for text in texts.negative_prompts)
    for what, half in (("prompt", texts.prompts), ("negative prompt", texts.negative_prompts)):
        for text in half:
            for note in text.notes:
                record.note(note)
            if text.cut:
                record.note(
                    f"The {what} has {text.tokens} tokens and this model reads "
                    f"{text.chunk_tokens}: the last {text.cut} did not reach the picture."
                )
    both = zip(texts.prompts, texts.negative_prompts or texts.prompts, strict=True)
    padded = [
        str(place)
        for place, pair in enumerate(both, 1)
        if max(len(text.chunks) for text in pair) < texts.chunks
    ]
    if padded:
        record.note(
            f"The batch's longest prompt has {texts.chunks} chunks, and the shorter prompts of "
            f"picture {', '.join(padded)} were padded to that: made without such a neighbour, it "
            "comes out otherwise."
        )
