"""Loaded pipelines: one per model, load arguments and what was prepared, with eviction."""

import gc
from collections import OrderedDict
from typing import Any

import diffusers
import torch
import transformers
from diffusers import StableDiffusionPipeline

from core.models import digest
from core.optimization import Configuration
from core.optimizations import load_arguments, place, prepare, prepared_key
from core.request import Model


class Pool:
    """Keeps the pipelines used last on one device, at most `capacity` of them."""

    def __init__(self, device: torch.device, capacity: int = 2) -> None:
        self.device = device
        self.capacity = capacity
        self._pipelines: OrderedDict[tuple[str, str, str], StableDiffusionPipeline] = OrderedDict()

    def get(self, model: Model, configuration: Configuration) -> StableDiffusionPipeline:
        """The pipeline for this model and configuration, loaded and prepared if it is not yet."""
        arguments = load_arguments(configuration)
        key = (model.digest, repr(sorted(arguments.items())), prepared_key(configuration))
        if key in self._pipelines:
            self._pipelines.move_to_end(key)
            return self._pipelines[key]
        while len(self._pipelines) >= self.capacity:
            self._pipelines.popitem(last=False)
            self.collect()
        pipeline = load(model, arguments)
        prepare(pipeline, configuration)
        place(pipeline, configuration, self.device)
        self._pipelines[key] = pipeline
        return pipeline

    def weight_bytes(self) -> int:
        """Bytes of the weights that lie in the computer's memory."""
        modules = (
            module
            for pipeline in self._pipelines.values()
            for module in pipeline.components.values()
            if isinstance(module, torch.nn.Module)
        )
        return sum(
            weight.nbytes
            for module in modules
            for weight in (*module.parameters(), *module.buffers())
            if weight.device.type == "cpu"
        )

    def clear(self) -> None:
        """Give all memory back to the device."""
        self._pipelines.clear()
        self.collect()

    def collect(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


def load(model: Model, arguments: dict[str, Any]) -> StableDiffusionPipeline:
    """Load into the computer's memory: from disk only, safetensors only, because a pickle can run
    code and a hub can change.

    Raises ValueError where the files are no longer the model that was asked for, or where it has
    a part this engine does not drive.
    """
    if digest(model.path) != model.digest:
        raise ValueError(
            f"The files of the model {model.name!r} have changed since it was chosen: "
            "start again, and new pictures are made with what is there now."
        )
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    pipeline = StableDiffusionPipeline.from_pretrained(
        model.path,
        local_files_only=True,
        use_safetensors=True,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **arguments,
    )
    if pipeline.unet.config.time_cond_proj_dim is not None:
        raise ValueError(
            f"The model {model.name!r} takes the guidance scale as an input of its UNet "
            "(a distilled model): Seedproof does not drive those."
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
