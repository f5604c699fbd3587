"""Chooses settings and batch size for a memory limit before anything starts, from measured runs.

How memory grows is a stated model, scaled from the measured run that is nearest in size:

- what the UNet adds to what stands loaded grows with rows in a call x pixels, and with pixels once
  more where whole score matrices are computed and the picture is larger than the measured one;
- what the VAE adds grows with the pixels it decodes at once, and with tiles the finished pictures
  stand beside (three float32 numbers a pixel, twice);
- the text encoder takes what it took.

A tenth is left free above what is added, because no run repeats another's peak exactly.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from core.ladder import WHOLE_SCORES, Choice, Stage, steps_down, told
from core.optimizations.memory import TILE
from core.platforms import Platform
from core.request import Job, Request
from core.run import PartName, Run
from core.sizes import gigabytes

ROOM = 1.1
"""What is added, times this, has to fit."""
_FINISHED = 3 * 4 * 2
"""Bytes of a finished pixel beside the tiles."""
_UNET_SLOTS = (
    "attention",
    "attention-slicing",
    "compile",
    "layerwise-casting",
    "memory-format",
    "offload",
    "precision",
    "slice-budget",
)
_VAE_SLOTS = ("memory-format", "offload", "precision")
"""Settings that decide what a part takes, beside what the model of growth knows."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The peaks to expect, the highest first."""

    peaks: tuple[tuple[int, Stage], ...]

    @property
    def peak_bytes(self) -> int:
        return self.peaks[0][0]

    @property
    def stage(self) -> Stage:
        return self.peaks[0][1]

    def is_below(self, other: "Prediction") -> bool:
        """Whether the highest peak is lower, or of equal ones the next."""
        ours, theirs = ([peak for peak, _ in each.peaks] for each in (self, other))
        return ours < theirs


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What was chosen before starting."""

    limit_bytes: int
    choice: Choice
    predicted: Prediction | None
    """Of the choice; None where nothing was measured to predict it from."""
    changes: str = ""
    """What differs from what was asked for, as a clause; empty where nothing had to."""

    @property
    def fits(self) -> bool:
        return self.predicted is not None and self.predicted.peak_bytes <= self.limit_bytes

    @property
    def sentence(self) -> str:
        limit = f"a limit of {gigabytes(self.limit_bytes)}"
        if self.predicted is None:
            return f"Nothing was measured here from which {limit} could be kept."
        peak = f"a peak of {gigabytes(self.predicted.peak_bytes)} is expected"
        if not self.fits:
            return f"{peak[0].upper()}{peak[1:]}, over {limit}: no step is known to lower it."
        chosen = f"made with {self.changes}, " if self.changes else ""
        return f"For {limit}: {chosen}{peak}."


def plan(
    asked: Choice,
    request: Request,
    platform: Platform,
    measured: Sequence[Run],
    limit_bytes: int,
    native: int,
) -> MemoryPlan:
    """Step down from what is asked for until the predicted peak fits, by rungs that lower it.

    `native`: the side in pixels that the model's VAE was made for, its tiles' own size.
    """
    choice = asked
    predicted = predict(choice, request, measured, native)
    while predicted is not None and predicted.peak_bytes > limit_bytes:
        for lower in steps_down(choice, request, platform, predicted.stage):
            below = predict(lower, request, measured, native, asked)
            if below is not None and below.is_below(predicted):
                choice, predicted = lower, below
                break
        else:
            break
    return MemoryPlan(
        limit_bytes=limit_bytes, choice=choice, predicted=predicted, changes=told(asked, choice)
    )


def usable(runs: Iterable[Run], model_digest: str, fingerprint: str) -> list[Run]:
    """Those that say what this model takes on this platform."""
    return [
        run
        for run in runs
        if run.outcome == "ok"
        and run.job.requests[0].model.digest == model_digest
        and run.environment.fingerprint == fingerprint
        and run.usage.loaded_bytes is not None
        and all(_peak(run, name) is not None for name in ("unet", "vae", "text-encoder"))
    ]


def predict(
    choice: Choice,
    request: Request,
    measured: Sequence[Run],
    native: int,
    asked: Choice | None = None,
) -> Prediction | None:
    """From runs that are `usable`; None where none had the settings that decide it.

    Where none had the choice's own, those of `asked` count, from which it is some steps down: they
    say at most too much.
    """
    unet = _scaled(measured, "unet", choice, request, native, asked)
    vae = _scaled(measured, "vae", choice, request, native, asked)
    if unet is None or vae is None:
        return None
    words = max(_peak(run, "text-encoder") or 0 for run in measured)
    stages: tuple[tuple[int, Stage], ...] = ((unet, "denoise"), (vae, "decode"), (words, "encode"))
    return Prediction(peaks=tuple(sorted(stages, reverse=True)))


def probe(request: Request, choice: Choice, native: int, job_id: str) -> Job:
    """The smallest job to predict from: one step of one picture at the model's own size."""
    small = replace(request, width=native, height=native, num_inference_steps=1)
    return Job(id=job_id, requests=(small,), configuration=choice.configuration)


def _scaled(
    measured: Sequence[Run],
    part: PartName,
    choice: Choice,
    request: Request,
    native: int,
    asked: Choice | None,
) -> int | None:
    """The part's peak for the choice, from the nearest run; of equally near ones the highest."""
    slots = _UNET_SLOTS if part == "unet" else _VAE_SLOTS
    known = ([r for r in measured if _alike(_choice(r), one, slots)] for one in (choice, asked))
    runs = next((found for found in known if found), [])
    wanted = _work(part, choice, request, native)
    candidates = [
        (abs(math.log(wanted / work)), -_grown(run, part, wanted, work, choice, request))
        for run in runs
        for work in (_work(part, _choice(run), run.job.requests[0], native),)
    ]
    return -min(candidates)[1] if candidates else None


def _grown(
    run: Run, part: PartName, wanted: float, work: float, choice: Choice, request: Request
) -> int:
    loaded, peak = run.usage.loaded_bytes or 0, _peak(run, part) or 0
    growth = max(0, peak - loaded) * wanted / work
    if part == "unet" and choice.configuration.get("attention") in WHOLE_SCORES:
        growth *= max(1.0, _pixels(request) / _pixels(run.job.requests[0]))
    if part == "vae" and choice.configuration.get("vae-tiling") != "off":
        growth += _FINISHED * choice.batch_size * _pixels(request)
    return int(loaded + growth * ROOM)


def _work(part: PartName, choice: Choice, request: Request, native: int) -> float:
    """What a part's memory grows with: pixels that are computed at once."""
    if part == "unet":
        both = choice.configuration.get("guidance-batch") == "off" and request.guidance_scale > 1
        return choice.batch_size * (2 if both else 1) * _pixels(request)
    name, _, number = choice.configuration.get("vae-tiling").partition(":")
    largest = math.inf
    if name != "off":
        largest = native if name == "auto" else float(number or TILE.default)
    together = 1 if choice.configuration.get("vae-slicing") == "on" else choice.batch_size
    return together * min(request.width, largest) * min(request.height, largest)


def _choice(run: Run) -> Choice:
    return Choice(configuration=run.job.configuration, batch_size=len(run.job.requests))


def _alike(choice: Choice, other: Choice | None, slots: Sequence[str]) -> bool:
    return other is not None and all(
        choice.configuration.get(slot) == other.configuration.get(slot) for slot in slots
    )


def _pixels(request: Request) -> int:
    return request.width * request.height


def _peak(run: Run, name: PartName) -> int | None:
    part = run.usage.part(name)
    return None if part is None else part.peak_bytes
