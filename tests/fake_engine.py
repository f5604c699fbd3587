"""An engine without a model: pictures follow from the request alone, unless told otherwise."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from core.optimization import Configuration
from core.platforms import Platform
from core.request import Conditions, Job, Model, Request, StepEvent, Watch
from core.run import Effective, Environment, Memory, Picture, Run, SlotEffect, Timings

Leak = Literal[
    "call",
    "process",
    "exec",
    "threads",
    "instruction-set",
    "batch-size",
    "batch-position",
    "other-work",
]
"""What may reach a picture although it should not: the number of calls before, the process, …"""

MODEL = Model(name="fake", path=Path("nowhere"), digest="f" * 64)
PLATFORM = Platform(
    device="cpu",
    device_name="a fake CPU",
    memory_bytes=16 * 10**9,
    cores=2,
    threads=2,
    instruction_set="FAKE",
    system="Test",
    capabilities={"float32": None, "bfloat16": None, "cuda": "this is a fake CPU"},
)


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How one setting departs from the baseline and from itself."""

    leaks: frozenset[Leak] = frozenset()
    levels: int = 0
    """Largest difference it makes to a channel; 0 keeps every bit."""
    slowdown: float = 1.0
    fails: str = ""
    """The reason why its runs fail; empty where they do not."""


@dataclass(kw_only=True)
class FakeEngine:
    """Deterministic from the request's hash. `behaviours` are by value text, as `slot=value`."""

    pictures: Path | None = None
    """Where PNGs go; None writes none."""
    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    conditions: Conditions = field(default_factory=Conditions)
    process_id: str = "fake-0"
    calls: int = 0
    before: str = ""
    """Digest of the work this process did before."""

    def run(self, job: Job, watch: Watch) -> Run:
        behaviours = self._behaviours(job.configuration)
        environment = self._environment()
        steps = job.requests[0].num_inference_steps
        slowdown = float(np.prod([b.slowdown for b in behaviours] or [1.0]))
        seconds = 0.01 * len(job.requests) * slowdown
        for step in range(1, steps + 1):
            if watch.cancelled():
                return Run(job=job, outcome="cancelled", environment=environment)
            watch.on_step(
                StepEvent(step=step, num_inference_steps=steps, sigma=1.0, seconds=seconds)
            )
        if watch.cancelled():
            return Run(job=job, outcome="cancelled", environment=environment)
        if reason := next((b.fails for b in behaviours if b.fails), ""):
            return Run(job=job, outcome="failed", environment=environment, reason=reason)
        made = tuple(self._picture(job, place) for place in range(len(job.requests)))
        self.before = _digest(self.before, job.configuration.key, job.requests)
        self.calls += 1
        return Run(
            job=job,
            outcome="ok",
            environment=environment,
            pictures=made,
            effective=Effective(
                slots=tuple(
                    SlotEffect(slot=slot, requested=value, effect="applied", counts={"calls": 1.0})
                    for slot, value in job.configuration
                )
            ),
            timings=Timings(denoise=steps * seconds, decode=0.01, steps=(seconds,) * steps),
            memory=Memory(peak_bytes=10**8, kind="made up"),
        )

    def close(self) -> None:
        """As a worker has it."""

    def _behaviours(self, configuration: Configuration) -> list[Behaviour]:
        texts = (f"{slot}={value}" for slot, value in configuration)
        return [self.behaviours[text] for text in texts if text in self.behaviours]

    def _picture(self, job: Job, place: int) -> Picture:
        request = job.requests[place]
        base = _digest(
            request.prompt,
            request.negative_prompt,
            request.seed,
            request.sampler,
            request.num_inference_steps,
            request.guidance_scale,
            request.model.digest,
        )
        pixels = _scene(base, request)
        changes = [("nudge", str(job.conditions.nudge), 1)] if job.conditions.nudge else []
        for behaviour in self._behaviours(job.configuration):
            if behaviour.levels:
                changes.append(("levels", job.configuration.key, behaviour.levels))
            changes += [
                (leak, fact, max(1, behaviour.levels))
                for leak in sorted(behaviour.leaks)
                if (fact := self._leaked(leak, job, place))
            ]
        for name, fact, levels in changes:
            pixels = _disturbed(pixels, _digest(base, name, fact), levels)
        latents = _digest(base, changes)
        return Picture(
            request=request,
            noise_sha256=_digest("noise", request.seed),
            latents_sha256=latents,
            pixels_sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
            step_sha256s=tuple(
                _digest(latents if step > 1 else base, step)
                for step in range(1, request.num_inference_steps + 1)
            )
            if job.capture_steps
            else (),
            path=self._save(pixels),
        )

    def _leaked(self, leak: Leak, job: Job, place: int) -> str:
        """What leaks, as text; empty where it is as in a first call alone in a forked process."""
        match leak:
            case "call":
                return str(self.calls or "")
            case "process":
                return self.process_id
            case "exec":
                return "exec" if self.conditions.process == "exec" else ""
            case "threads":
                return str(self.conditions.threads or "")
            case "instruction-set":
                return self.conditions.instruction_set or ""
            case "batch-size":
                return str(len(job.requests)) if len(job.requests) > 1 else ""
            case "batch-position":
                return str(place or "")
            case "other-work":
                return self.before

    def _environment(self) -> Environment:
        return Environment(
            fingerprint=PLATFORM.fingerprint,
            device="cpu",
            threads=self.conditions.threads or PLATFORM.threads,
            instruction_set=self.conditions.instruction_set or PLATFORM.instruction_set,
            process=self.conditions.process,
            process_id=self.process_id,
            calls_before=self.calls,
            versions={"torch": "0"},
            started_at="2026-01-01T00:00:00.000+00:00",
        )

    def _save(self, pixels: npt.NDArray[np.uint8]) -> Path | None:
        if self.pictures is None:
            return None
        self.pictures.mkdir(parents=True, exist_ok=True)
        path = self.pictures / f"{hashlib.sha256(pixels.tobytes()).hexdigest()}.png"
        Image.fromarray(pixels).save(path)
        return path


class FakeWorker(FakeEngine):
    """A fake engine in a fake process, which may die in a run."""

    def __init__(self, workers: "FakeWorkers", number: int, conditions: Conditions) -> None:
        super().__init__(
            pictures=workers.pictures,
            behaviours=workers.behaviours,
            conditions=conditions,
            process_id=f"fake-{number}",
        )
        self.number = number
        self.workers = workers
        self.dead = False
        self.closed = False

    def run(self, job: Job, watch: Watch) -> Run:
        assert not self.closed, "a closed worker was asked to run"
        self.workers.events.append(f"run {self.number}")
        if self.dead or self.workers.dies(self.number, job):
            self.dead = True
            reason = "The worker process ended by signal SIGKILL in the middle of the run."
            return Run(job=job, outcome="failed", environment=self._environment(), reason=reason)
        return super().run(job, watch)

    def close(self) -> None:
        assert not self.closed, "a worker was closed twice"
        self.closed = True
        self.workers.events.append(f"close {self.number}")


@dataclass(kw_only=True)
class FakeWorkers:
    """Opens fake workers, numbered, and writes down what happened to them."""

    pictures: Path | None = None
    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    dies: Callable[[int, Job], bool] = lambda number, job: False
    """Whether the worker of this number dies in this job."""
    events: list[str] = field(default_factory=list)
    """`open 1`, `run 1`, `close 1`, … in order."""
    opened: list[FakeWorker] = field(default_factory=list)
    number_from: int = 1

    def __call__(self, conditions: Conditions) -> FakeWorker:
        worker = FakeWorker(self, len(self.opened) + self.number_from, conditions)
        self.opened.append(worker)
        self.events.append(f"open {worker.number}")
        return worker

    @property
    def alive(self) -> list[FakeWorker]:
        return [worker for worker in self.opened if not worker.closed]


def _digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _scene(digest: str, request: Request) -> npt.NDArray[np.uint8]:
    """Smooth random colours: structure for metrics that look for it."""
    rng = np.random.default_rng(int(digest[:16], 16))
    coarse = Image.fromarray(rng.integers(16, 240, (6, 6, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((request.width, request.height), Image.Resampling.BICUBIC))


def _disturbed(pixels: npt.NDArray[np.uint8], digest: str, levels: int) -> npt.NDArray[np.uint8]:
    """At least one channel of one pixel differs, and none by more than `levels`."""
    rng = np.random.default_rng(int(digest[:16], 16))
    change = rng.integers(-levels, levels + 1, pixels.shape)
    change[0, 0, 0] = levels if pixels[0, 0, 0] < 128 else -levels
    return (pixels.astype(np.int64) + change).clip(0, 255).astype(np.uint8)
