"""A job as JSON: how it stands, and what became of it. The same names as in the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.request import Job
from core.run import Run
from webapp.ticket import State, Ticket

_STAGES = ("load", "encode", "denoise", "decode", "save")
_REQUESTED = (
    "prompt",
    "negative_prompt",
    "prompt_syntax",
    "seed",
    "width",
    "height",
    "num_inference_steps",
    "guidance_scale",
    "sampler",
    "schedule",
    "noise_source",
    "variation_strength",
    "variation_seed",
    "eta_noise_seed_delta",
    "clip_skip",
)


@dataclass(frozen=True, kw_only=True)
class ImageDocument:
    """One picture of a job."""

    url: str
    """Where its file is, with the receipt in it."""
    pixels_sha256: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class JobDocument:
    """A job as it stood at one moment. What is not known, or not known yet, is null."""

    id: str
    requested: dict[str, Any]
    """Its fields as they were understood."""
    state: State
    reason: str
    """One sentence where the state is `failed` or `cancelled`."""
    ahead: int
    """Jobs that will be done before this one begins."""
    wait_seconds: float | None
    """Until it begins, from the steps measured lately."""
    step: int
    num_inference_steps: int
    """With those of a second pass, once it takes steps."""
    remaining_seconds: float | None
    """Of steps still to come, from those seen."""
    waited_seconds: float | None
    run_seconds: float | None
    images: list[ImageDocument] | None = None
    used: dict[str, str] | None = None
    """The settings that made the pictures, also where memory allowed less than was asked for."""
    effective: dict[str, Any] | None = None
    """What every setting really did."""
    notes: list[str] | None = None
    seconds: dict[str, float] | None = None
    """By stage."""
    peak_memory_bytes: int | None = None
    attempt: int | None = None
    """2 where the process that first began the job died in it."""


def of_ticket(ticket: Ticket, images: str) -> JobDocument:
    """A job that the queue knows. `images` is where its pictures are, before their number."""
    step, steps = ticket.step, ticket.job.requests[0].num_inference_steps
    return JobDocument(
        id=ticket.job.id,
        requested=_requested(ticket.job),
        state=ticket.state,
        reason=ticket.reason,
        ahead=ticket.ahead,
        wait_seconds=_rounded(ticket.wait) if ticket.state == "waiting" else None,
        step=0 if step is None else step.step,
        num_inference_steps=steps if step is None else step.num_inference_steps,
        remaining_seconds=_rounded(ticket.remaining) if ticket.state == "running" else None,
        waited_seconds=_rounded(ticket.waited),
        run_seconds=_rounded(ticket.seconds),
        **_became(ticket.run, images),
    )


def of_run(run: Run, images: str) -> JobDocument:
    """A job that only the database knows."""
    steps = run.job.requests[0].num_inference_steps
    return JobDocument(
        id=run.job.id,
        requested=_requested(run.job),
        state=run.outcome,
        reason=run.reason,
        ahead=0,
        wait_seconds=None,
        step=steps if run.outcome == "ok" else len(run.timings.steps),
        num_inference_steps=steps,
        remaining_seconds=None,
        waited_seconds=None,
        run_seconds=_rounded(run.usage.seconds or None),
        **_became(run, images),
    )


def effects(run: Run) -> dict[str, Any]:
    """What every setting really did."""
    return {
        slot.slot: {
            "effect": slot.effect,
            "counts": slot.counts,
            "operators": slot.operators,
            "reason": slot.reason,
        }
        for slot in run.effective.slots
    }


def seconds(runs: Sequence[Run]) -> dict[str, float]:
    """By stage, of all runs together."""
    return {stage: round(sum(getattr(run.timings, stage) for run in runs), 4) for stage in _STAGES}


def _requested(job: Job) -> dict[str, Any]:
    first = job.requests[0]
    return {
        **{name: getattr(first, name) for name in _REQUESTED},
        "configuration": job.configuration.as_dict(),
        "batch_size": len(job.requests),
    }


def _became(run: Run | None, images: str) -> dict[str, Any]:
    if run is None:
        return {}
    return {
        "images": [
            ImageDocument(
                url=f"{images}/{number}",
                pixels_sha256=picture.pixels_sha256,
                seed=picture.request.seed,
            )
            for number, picture in enumerate(run.pictures)
        ],
        "used": run.job.configuration.as_dict(),
        "effective": effects(run),
        "notes": list(run.effective.notes),
        "seconds": seconds((run,)),
        "peak_memory_bytes": run.memory.peak_bytes,
        "attempt": run.attempt,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
