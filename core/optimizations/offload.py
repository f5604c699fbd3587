"""The offload slot: parts of the pipeline lie in the computer's memory until they are computed.

diffusers' `enable_model_cpu_offload` and `enable_sequential_cpu_offload`, whose hooks are
accelerate's. It takes a device with memory of its own; on a CPU, and on an Apple GPU, which shares
the computer's, there is nothing to win.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

from core.optimization import Optimization, Slot
from core.optimizations.compilation import is_compiled
from core.record import Record, SlotRecord
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

Kind = Literal["model", "sequential"]


def _place(kind: Kind, pipeline: "StableDiffusionPipeline", device: torch.device) -> None:
    if is_compiled(pipeline):
        raise ValueError(
            "offload and compile cannot be chosen together: compiled code keeps its weights where "
            "they were."
        )
    enable = {
        "model": pipeline.enable_model_cpu_offload,
        "sequential": pipeline.enable_sequential_cpu_offload,
    }[kind]
    enable(device=device)


class Places:
    """Where the parts' weights lie, seen inside the calls of the UNet and the VAE's decoder."""

    def __init__(self, pipeline: "StableDiffusionPipeline", notes: SlotRecord) -> None:
        self.pipeline = pipeline
        self.notes = notes
        self.device = "nowhere"
        """What computed."""

    def unet(self, layer: Any, args: Any) -> None:
        x, counts = args[0], self.notes.counts
        self.device = x.device.type
        counts["unet_calls"] += 1
        counts["unet_calls_beside_the_text_encoder"] += _on(self.pipeline.text_encoder, x) > 0
        counts["most_unet_bytes_on_the_device"] = max(
            counts["most_unet_bytes_on_the_device"], _on(self.pipeline.unet, x)
        )

    def vae(self, layer: Any, args: Any) -> None:
        counts = self.notes.counts
        counts["vae_calls"] += 1
        # The last call is the picture's own; one of a preview stands between calls of the UNet.
        counts["unet_bytes_beside_the_last_vae_call"] = _on(self.pipeline.unet, args[0])

    def conclude(self, kind: Kind) -> None:
        counts = self.notes.counts
        if not counts["unet_calls"]:
            self.notes.conclude("none", "the UNet was not called")
        elif self.device == "cpu":
            self.notes.conclude("none", "the CPU computed, so there was no other memory to spare")
        elif kind == "sequential" and counts["most_unet_bytes_on_the_device"]:
            self.notes.conclude(
                "fell-back",
                f"{counts['most_unet_bytes_on_the_device']} bytes of the UNet's weights lay on "
                "the device before their layers were called",
            )
        elif counts["unet_calls_beside_the_text_encoder"]:
            self.notes.conclude(
                "fell-back",
                f"the text encoder lay on the device during "
                f"{counts['unet_calls_beside_the_text_encoder']} UNet calls",
            )
        elif counts["unet_bytes_beside_the_last_vae_call"]:
            self.notes.conclude("fell-back", "the UNet lay on the device while the VAE decoded")
        else:
            self.notes.conclude("applied")


def _on(part: torch.nn.Module, x: torch.Tensor) -> int:
    """Bytes of a part's weights on the device of a tensor."""
    return sum(weight.nbytes for weight in part.parameters() if weight.device == x.device)


@contextmanager
def _patched(
    kind: Kind,
    pipeline: "StableDiffusionPipeline",
    job: Job,
    parameter: float | None,
    record: Record,
) -> Iterator[None]:
    """Changes nothing, placing did; at the end what is still on the device leaves it."""
    places = Places(pipeline, record.slot("offload", job.configuration.get("offload")))
    with ExitStack() as stack:
        for layer, look in (
            (pipeline.unet.conv_in, places.unet),
            (pipeline.vae.decoder.conv_in, places.vae),
        ):
            stack.callback(layer.register_forward_pre_hook(look).remove)
        try:
            yield
        finally:
            places.conclude(kind)
            pipeline.maybe_free_model_hooks()


def _option(kind: Kind, summary: str, changes: str) -> Optimization:
    return Optimization(
        slot="offload",
        name=kind,
        summary=summary,
        changes=changes,
        needs=frozenset({"own-memory"}),
        place=partial(_place, kind),
        patch=partial(_patched, kind),
    )


OFFLOAD = Slot(
    name="offload",
    label="Offload",
    options=(
        _option(
            "model",
            "Text encoder, UNet and VAE are on the GPU one at a time.",
            "A little time, for moving each part once.",
        ),
        _option(
            "sequential",
            "Every layer's weights are on the GPU for its own call only.",
            "Much time: all weights are moved in every step.",
        ),
    ),
)
