"""A job's changing state inside the queue, and how much work it is."""

import contextvars
import threading
import time
from dataclasses import dataclass, field

from core.request import Job, StepEvent
from core.run import Run
from webapp.ticket import State


@dataclass
class Entry:
    """Only touched under the queue's lock."""

    job: Job
    owner: str
    kept: bool = True
    state: State = "waiting"
    step: StepEvent | None = None
    asked: float = field(default_factory=time.monotonic)
    started: float = 0.0
    waited: float = 0.0
    seconds: float = 0.0
    denoising: float = 0.0
    run: Run | None = None
    reason: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    """Of whoever asked. On ZeroGPU it says whose quota a job is counted against."""


def work(job: Job) -> float:
    """Pixels times steps: what a job's time grows with, near enough for a queue."""
    return float(sum(r.width * r.height * r.num_inference_steps for r in job.requests))


def share(step: StepEvent | None) -> float:
    """How much of the steps is done, from 0 to 1."""
    return 0.0 if step is None else step.step / step.num_inference_steps


def ended(entry: Entry) -> float:
    """When a closed job closed, by `time.monotonic`."""
    return max(entry.started, entry.asked + entry.waited) + entry.seconds
