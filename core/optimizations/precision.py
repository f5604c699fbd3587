"""The precision slot: the number format of weights and activations."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch

from core.optimization import Optimization, Slot
from core.optimizations.unet_calls import watching_unet
from core.platforms import Platform
from core.record import Record
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


@contextmanager
def patched(
    dtype: torch.dtype,
    pipeline: "StableDiffusionPipeline",
    job: Job,
    parameter: float | None,
    record: Record,
) -> Iterator[None]:
    """Changes nothing, loading did: counts UNet calls by the format of latents and weights."""
    notes = record.slot("precision", job.configuration.get("precision"))

    # Looked up once: walking through the modules takes longer than an attention call. Where
    # layers are cast for their own calls, the formats of weights are that setting's account.
    cast = job.configuration.get("layerwise-casting") != "off"
    weights = [] if cast else [w for w in pipeline.unet.parameters() if w.is_floating_point()]

    def see(sample: torch.Tensor) -> None:
        notes.counts[f"unet_calls_with_{_name(sample.dtype)}_latents"] += 1
        for seen in {weight.dtype for weight in weights}:
            notes.counts[f"unet_calls_with_{_name(seen)}_weights"] += 1

    try:
        with watching_unet(pipeline, see):
            yield
    finally:
        wrong = sorted(name for name in notes.counts if f"_{_name(dtype)}_" not in name)
        if wrong:
            notes.conclude("fell-back", f"the UNet computed otherwise: {', '.join(wrong)}")
        elif notes.counts:
            notes.conclude("applied")
        else:
            notes.conclude("none", "the UNet was not called")


def _name(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


def _option(name: str, dtype: torch.dtype, summary: str, changes: str) -> Optimization:
    return Optimization(
        slot="precision",
        name=name,
        summary=summary,
        changes=changes,
        needs=frozenset({_name(dtype)}),
        load={"dtype": dtype},
        patch=partial(patched, dtype),
    )


def _default(platform: Platform) -> str:
    """What everybody uses on such a platform, where it works; float32 works everywhere."""
    wanted = next((o for o in (FP16, BF16) if _name(o.load["dtype"]) == platform.dtype), FP32)
    return FP32.name if platform.why_not(wanted.needs) else wanted.name


FP32 = _option("fp32", torch.float32, "32-bit numbers.", "Twice the memory of 16 bits.")
BF16 = _option(
    "bf16",
    torch.bfloat16,
    "16-bit numbers with 8 bits of precision.",
    "The picture; an audit says how far.",
)
FP16 = _option(
    "fp16",
    torch.float16,
    "16-bit numbers with 11 bits of precision and a small range; usual on GPUs.",
    "The picture, a little; a number beyond 65,504 stops the run. Slow on most CPUs.",
)

PRECISION = Slot(name="precision", label="Precision", options=(FP32, BF16, FP16), default=_default)
