"""Prompts → text embeddings."""

from typing import TYPE_CHECKING

import torch

from core.record import Record
from core.request import Request

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def encode(
    pipeline: "StableDiffusionPipeline",
    requests: tuple[Request, ...],
    guided: bool,
    record: Record,
) -> torch.Tensor:
    """Text embeddings (rows, 77, width): the negative prompts' rows first where guided.

    Encoding is diffusers' own. A prompt longer than the text encoder reads is cut, as diffusers
    does, and the record says how much was lost.
    """
    for request in requests:
        _note_cut(pipeline, "prompt", request.prompt, record)
        if guided:
            _note_cut(pipeline, "negative prompt", request.negative_prompt, record)
    positive, negative = pipeline.encode_prompt(
        [request.prompt for request in requests],
        pipeline._execution_device,
        1,
        guided,
        [request.negative_prompt for request in requests],
    )
    return torch.cat([negative, positive]) if guided else positive


def _note_cut(pipeline: "StableDiffusionPipeline", what: str, text: str, record: Record) -> None:
    tokens = len(pipeline.tokenizer.tokenize(text))
    room = pipeline.tokenizer.model_max_length - 2
    if tokens > room:
        record.note(
            f"The {what} has {tokens} tokens and this model reads {room}: "
            f"the last {tokens - room} did not reach the picture."
        )
