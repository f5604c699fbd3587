"""What is done when memory runs out: it is freed, and the picture is made by the next rung."""

import uuid
from dataclasses import dataclass, replace
from typing import cast

import torch

from core.engine import Engine
from core.ladder import Choice, Stage, steps_down, told
from core.platforms import Platform
from core.request import Job, Watch
from core.run import Run

_MESSAGES = (
    "can't allocate memory",
    "Cannot allocate memory",
    "bad_alloc",
    "out of memory",
    "STATUS_ALLOC_FAILED",
)
"""What torch's allocators for CPU, Metal and CUDA, the system, C++, and cuBLAS and cuDNN say."""
_WORDS = {
    "load": "loading the model",
    "encode": "reading the prompt",
    "denoise": "denoising",
    "decode": "decoding",
}


def ran_out(error: BaseException) -> bool:
    """Whether memory ran out, on whichever device: on a CPU torch raises a plain RuntimeError."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(
        message in str(error) for message in _MESSAGES
    )


def run_stepping_down(
    engine: Engine, job: Job, watch: Watch, platform: Platform, *, keep_batch: bool = False
) -> tuple[Run, ...]:
    """The job's pictures, in its order, with less where memory runs out; each rung is tried once.

    More than one run where the batch had to be smaller. Records and receipts have the settings
    that really made a picture, and a note of what was asked for. Without a further rung the last
    run has failed.
    """
    run = engine.run(job, watch)
    asked = Choice(configuration=job.configuration, batch_size=len(job.requests))
    lower = None
    if run.outcome == "failed" and run.shortage in _WORDS:
        below = steps_down(asked, job.requests[0], platform, cast("Stage", run.shortage))
        kept = (c for c in below if not keep_batch or c.batch_size == asked.batch_size)
        lower = next(kept, None)
    if lower is None:
        return (run,)
    note = f"Memory ran out while {_WORDS[run.shortage]}: made with {told(asked, lower)}."
    following = replace(job, configuration=lower.configuration, notes=(*job.notes, note))
    runs: list[Run] = []
    left, size = job.requests, lower.batch_size
    while left:
        part = replace(following, requests=left[:size])
        runs += run_stepping_down(engine, part, watch, platform, keep_batch=keep_batch)
        if runs[-1].outcome != "ok":
            break
        # What the last pictures needed, the next ones need too.
        following = replace(runs[-1].job, id=uuid.uuid4().hex)
        size = len(following.requests)
        left = job.requests[sum(len(made.job.requests) for made in runs) :]
    return tuple(runs)


@dataclass(frozen=True)
class SteppingEngine:
    """An engine whose jobs step down; a batch stays together, because a job is one run."""

    engine: Engine
    platform: Platform

    def run(self, job: Job, watch: Watch) -> Run:
        (run,) = run_stepping_down(self.engine, job, watch, self.platform, keep_batch=True)
        return run
