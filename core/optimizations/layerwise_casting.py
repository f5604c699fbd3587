"""The layerwise-casting slot: the UNet's weights lie in a small format; each layer widens its own.

diffusers' `enable_layerwise_casting`: every convolution and linear layer is cast to the precision
of the computation for its own call, and back. Normalisations stay as they are. What is rounded away
does not come back, so that it is a pipeline of its own.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from core.optimization import Optimization, Slot
from core.optimizations.compilation import is_compiled
from core.record import Record, SlotRecord
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

HOOK = "layerwise_casting"
"""What diffusers calls its hook on a layer."""


def _prepare(
    storage: torch.dtype, pipeline: "StableDiffusionPipeline", parameter: float | None
) -> None:
    if is_compiled(pipeline):
        raise ValueError(
            "layerwise-casting and compile cannot be chosen together: compiled code keeps its "
            "weights as they were."
        )
    pipeline.unet.enable_layerwise_casting(storage_dtype=storage, compute_dtype=pipeline.unet.dtype)


def _layers(unet: torch.nn.Module) -> list[torch.nn.Module]:
    """Those that diffusers casts."""
    registries = ((module, getattr(module, "_diffusers_hook", None)) for module in unet.modules())
    return [module for module, hooks in registries if hooks and hooks.get_hook(HOOK)]


@contextmanager
def _patched(
    storage: torch.dtype,
    pipeline: "StableDiffusionPipeline",
    job: Job,
    parameter: float | None,
    record: Record,
) -> Iterator[None]:
    """Changes nothing, preparing did: notes the format of a layer's weights before its call, and
    of what it gives."""
    notes = record.slot("layerwise-casting", job.configuration.get("layerwise-casting"))
    compute, layers = pipeline.unet.dtype, _layers(pipeline.unet)

    def before(layer: Any, args: Any) -> None:
        notes.counts[f"layer_calls_from_{_name(layer.weight.dtype)}"] += 1

    def after(layer: Any, args: Any, output: torch.Tensor) -> None:
        notes.counts[f"layer_calls_in_{_name(output.dtype)}"] += 1

    try:
        with ExitStack() as handles:
            for layer in layers:
                handles.callback(layer.register_forward_pre_hook(before).remove)
                handles.callback(layer.register_forward_hook(after).remove)
            yield
    finally:
        weights = list(pipeline.unet.parameters())
        notes.counts["unet_weight_bytes"] = sum(weight.nbytes for weight in weights)
        notes.counts["unet_weight_bytes_without_casting"] = sum(
            weight.numel() * compute.itemsize for weight in weights
        )
        _conclude(notes, storage, compute, bool(layers))


def _conclude(
    notes: SlotRecord, storage: torch.dtype, compute: torch.dtype, prepared: bool
) -> None:
    rest, computed = f"layer_calls_from_{_name(storage)}", f"layer_calls_in_{_name(compute)}"
    calls = [name for name in notes.counts if name.startswith("layer_calls_")]
    wrong = sorted(name for name in calls if name not in (rest, computed))
    if not prepared:
        notes.conclude("fell-back", "the UNet that ran keeps its weights in one format")
    elif storage == compute:
        notes.conclude("none", f"the weights are {_name(compute)} already")
    elif wrong:
        notes.conclude("fell-back", f"layers were called otherwise: {', '.join(wrong)}")
    elif not calls:
        notes.conclude("none", "the UNet was not called")
    else:
        notes.conclude("applied")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _probe(storage: torch.dtype, device: torch.device, dtype: torch.dtype) -> None:
    """There and back, by numbers that every format has."""
    x = torch.tensor([0.5, -2.0], device=device, dtype=dtype)
    if not torch.equal(x.to(storage).to(dtype), x):
        raise RuntimeError(f"casting to {_name(storage)} and back gave other numbers")


def _option(name: str, storage: torch.dtype, summary: str, changes: str) -> Optimization:
    return Optimization(
        slot="layerwise-casting",
        name=name,
        summary=summary,
        changes=changes,
        probe=partial(_probe, storage),
        prepare=partial(_prepare, storage),
        patch=partial(_patched, storage),
    )


LAYERWISE_CASTING = Slot(
    name="layerwise-casting",
    label="Layerwise casting",
    options=(
        _option(
            "fp8",
            torch.float8_e4m3fn,
            "The UNet's weights lie in 8 bits (4 of exponent, 3 of fraction), and each layer is "
            "widened for its call.",
            "The picture, as weights are rounded; time for casting.",
        ),
        _option(
            "bf16",
            torch.bfloat16,
            "The same in 16 bits; for a model that computes in fp32.",
            "The picture, a little; time for casting.",
        ),
    ),
)
