"""Leaves the choice to A1111's rule for its setting "Automatic".

A1111 v1.10.1 (`sd_hijack.py`, and the priorities in `sd_hijack_optimizations.py`) takes what a
command line flag names, else the available option of the highest priority. Nobody gives flags here,
and without its flag A1111 does not import xFormers: what remains follows from the kind of device.
Slices keep to the budget of this program; A1111's own is the setting `slice-budget=free-memory`.
"""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch

from core.optimization import Optimization
from core.optimizations.attention.backend import Backend
from core.optimizations.attention.doggettx import DOGGETTX
from core.optimizations.attention.invokeai import INVOKEAI
from core.optimizations.attention.processor import patched
from core.optimizations.attention.sub_quadratic import SUB_QUADRATIC
from core.record import Record
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


def choose(device_type: str) -> tuple[Backend, str]:
    """The backend for a kind of torch device (`cuda`, `mps`, `cpu`), and why, as a clause."""
    if device_type == "mps":
        return SUB_QUADRATIC, "on an Apple GPU it has A1111's highest priority, 1000"
    if device_type == "cuda":
        return DOGGETTX, "on CUDA without flags it has A1111's highest priority, 90"
    return INVOKEAI, "with neither CUDA nor an Apple GPU it has A1111's highest priority, 1000"


def _patched(
    pipeline: "StableDiffusionPipeline", job: Job, parameter: float | None, record: Record
) -> AbstractContextManager[None]:
    backend, why = choose(pipeline._execution_device.type)
    notes = record.slot("attention", job.configuration.get("attention"))
    notes.counts[f"chose_{backend.name}"] = 1
    return patched(backend, f"auto chose {backend.name}: {why}; ", pipeline, job, parameter, record)


def _probe(device: torch.device, dtype: torch.dtype) -> None:
    backend, _ = choose(device.type)
    backend.probe(device, dtype)


AUTO = Optimization(
    slot="attention",
    name="auto",
    summary="A1111's Automatic: Doggettx on CUDA, sub-quadratic on Macs, InvokeAI elsewhere.",
    changes="What the chosen option costs; the record names it.",
    probe=_probe,
    patch=_patched,
)
