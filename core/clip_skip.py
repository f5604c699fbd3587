"""The text encoder without its last layers.

A1111's "Clip skip" counts from 1, which skips nothing. With 2 the last layer but one ends the text
encoder, and the final layer norm is applied to what it gives, for both prompts alike. (diffusers'
own `clip_skip` is one less, and leaves the negative prompt as it is.)
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from core.record import Record

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


@contextmanager
def skipping(pipeline: "StableDiffusionPipeline", clip_skip: int, record: Record) -> Iterator[None]:
    """Inside, the text encoder ends `clip_skip - 1` layers early; nothing is left behind.

    The layers that ran are counted. Nothing is recorded where nothing is to be skipped.
    """
    if clip_skip == 1:
        yield
        return
    # Some versions of transformers have the encoder one level further down.
    encoder: Any = getattr(pipeline.text_encoder, "text_model", pipeline.text_encoder).encoder
    layers = encoder.layers
    notes = record.slot("clip-skip", str(clip_skip))

    def count(what: str) -> Any:
        def before(*_: Any) -> None:
            notes.counts[what] += 1

        return before

    with ExitStack() as hooks:
        hooks.callback(encoder.register_forward_pre_hook(count("text_encoder_calls")).remove)
        for layer in layers:
            hooks.callback(layer.register_forward_pre_hook(count("layer_calls")).remove)
        encoder.layers = torch.nn.ModuleList(layers[: len(layers) - clip_skip + 1])
        try:
            yield
        finally:
            encoder.layers = layers
    skipped = notes.counts["text_encoder_calls"] * len(layers) - notes.counts["layer_calls"]
    notes.counts["layer_calls_skipped"] = skipped
    if skipped and skipped == notes.counts["text_encoder_calls"] * (clip_skip - 1):
        notes.conclude("applied")
    else:
        notes.conclude("fell-back", f"{skipped} calls of a layer were skipped")
