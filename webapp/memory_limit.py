"""`--memory-limit`: read from the terminal, and kept by choosing before anything starts."""

import re
import uuid
from collections.abc import Sequence
from typing import Any

from core.engine import Engine
from core.ladder import Choice
from core.models import native_size
from core.planner import MemoryPlan, plan, predict, probe, usable
from core.platforms import Platform
from core.request import Following, Request
from core.run import Run
from core.sizes import gigabytes
from core.store import Store
from webapp.terminal import BadInput, tell

_UNITS = {"": 10**9, "gb": 10**9, "mb": 10**6}
_LATEST = 200
"""Stored runs that are looked at for measurements."""


def byte_count(text: str) -> int:
    """`0.9GB`, `900MB`, or a plain number of GB (10⁹ bytes). Raises BadInput for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*(gb|mb|)", text.strip().lower())
    count = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if not count:
        raise BadInput(f"A memory limit is a size such as 0.9GB or 900MB, not {text!r}.")
    return count


def planned(
    limit_bytes: int,
    request: Request,
    asked: Choice,
    platform: Platform,
    engine: Engine,
    store: Store,
) -> MemoryPlan:
    """What to choose for the limit, from this model's stored runs here.

    Where there are none under the settings asked for, one step at the model's own size is made,
    and kept as a measurement. On CUDA the limit then holds for this process; on a CPU nothing
    holds a process to it.
    """
    if platform.device.startswith("cuda"):
        import torch

        share = min(1.0, limit_bytes / platform.memory_bytes)
        torch.cuda.set_per_process_memory_fraction(share, torch.device(platform.device))
    native = native_size(request.model)

    def known() -> list[Run]:
        return usable(store.generations(_LATEST), request.model.digest, platform.fingerprint)

    measured = known()
    if predict(asked, request, measured, native) is None:
        tell(f"  these settings were not measured here yet: one step at {native}x{native} px first")
        first = probe(request, asked, native, uuid.uuid4().hex)
        store.add_generation(engine.run(first, Following()))
        measured = known()
    return plan(asked, request, platform, measured, limit_bytes, native)


def document(plan: MemoryPlan) -> dict[str, Any]:
    """The plan as JSON has it."""
    return {
        "limit_bytes": plan.limit_bytes,
        "predicted_peak_bytes": plan.predicted.peak_bytes if plan.predicted else None,
        "fits": plan.fits,
        "batch_size": plan.choice.batch_size,
        "changes": plan.changes,
        "sentence": plan.sentence,
    }


def over_limit(runs: Sequence[Run], limit_bytes: int) -> str:
    """A sentence where the measured peak was over the limit all the same, else empty."""
    peak = max(run.memory.peak_bytes or 0 for run in runs)
    if peak <= limit_bytes:
        return ""
    return f"The peak of {gigabytes(peak)} was over the limit of {gigabytes(limit_bytes)}."
