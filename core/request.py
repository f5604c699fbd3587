"""What is asked: the picture wanted, how to compute it, and what should not matter."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from core.optimization import Configuration

MOST_SEED = 2**64 - 1
MOST_DELTA = 2**32 - 1
"""Of what is added to a seed."""
ProcessKind = Literal["same", "forked", "exec"]
PromptSyntax = Literal["a1111", "plain"]
"""`a1111`: AUTOMATIC1111's, of any length (`core.prompt_syntax`). `plain`: every character as it
stands, cut where the text encoder ends, as diffusers' own pipeline has it."""
NoiseSource = Literal["CPU", "device", "NV"]
"""Whose random numbers: the CPU's, the device's own, or an NVIDIA GPU's computed on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Where weights lie and which weights they are.

    `digest` is the SHA-256 over the names and contents of the weight and configuration files
    (`core.models.resolve` computes it); it alone identifies the model, `path` only finds it.
    """

    name: str
    path: Path
    digest: str


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user wants to see. Two equal requests ask for the same picture."""

    prompt: str
    model: Model
    negative_prompt: str = ""
    prompt_syntax: PromptSyntax = "plain"
    """Of both prompts. Plain by default because records from before there was a choice are; the
    app, the terminal and plans ask for `a1111`."""
    seed: int = 0
    width: int = 128
    """Pixels."""
    height: int = 128
    """Pixels."""
    num_inference_steps: int = 20
    guidance_scale: float = 7.0
    sampler: str = "Euler"
    schedule: str = "Automatic"
    """The noise levels that the sampler steps through: a name of `core.schedules`."""
    noise_source: NoiseSource = "CPU"
    variation_seed: int = 0
    """Of the noise that the picture's own is moved towards; 0 where nothing is."""
    variation_strength: float = 0.0
    """From 0, the picture's own noise, to 1, the variation's."""
    eta_noise_seed_delta: int = 0
    """Added to the seed for the noise that ancestral samplers add in every step; where it is 0,
    that noise goes on where the initial noise ended."""
    clip_skip: int = 1
    """The text encoder's layer whose output is taken, counted from the last one, 1, as A1111
    counts; the final layer norm is applied to it."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What should not change a picture, and what an audit varies to see whether it does."""

    threads: int | None = None
    """Threads inside one operator; None leaves the platform's default."""
    process: ProcessKind = "same"
    """How the process that runs the job has to come to be: any, forked after imports, or exec'd."""
    instruction_set: str | None = None
    """What the process's CPU kernels are limited to, as torch names it; None leaves what it has."""
    generator_seed: int | None = None
    """Of torch's global generator, set before the job; None leaves what the process has."""
    nudge: int | None = None
    """Flat index into one picture's initial latents of the element moved up by one ULP."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One batch: requests that share model, size, steps, sampler and guidance.

    The order of `requests` is the position in the batch.
    """

    id: str
    requests: tuple[Request, ...]
    configuration: Configuration
    conditions: Conditions = field(default_factory=Conditions)
    capture_steps: bool = True
    """Record a digest of every picture's latents after every step."""
    notes: tuple[str, ...] = ()
    """Sentences for the record and the receipts, for example why the settings are not those that
    were asked for."""
    preview: bool = False
    """Attach a small picture of the first request's estimate to step events (`core.preview`)."""


@dataclass(frozen=True, kw_only=True)
class StepEvent:
    """Sent after a denoising step. `step` counts from 1 to `num_inference_steps`, which has the
    steps of a second pass too; with samplers that call the UNet twice in a step, such as Heun,
    both calls are one step."""

    step: int
    num_inference_steps: int
    sigma: float
    """The noise level the step began at."""
    seconds: float
    """Wall time of this step."""
    preview_png: bytes | None = None


class Watch(Protocol):
    """How a run is followed and stopped. Both methods are called from the engine's thread."""

    def on_step(self, event: StepEvent) -> None: ...

    def cancelled(self) -> bool:
        """Asked before every UNet call; True makes the engine stop, free and return `cancelled`."""


@dataclass(frozen=True)
class Following:
    """A `Watch` made of two functions; the defaults watch nothing and never cancel."""

    step: Callable[[StepEvent], None] = lambda event: None
    stop: Callable[[], bool] = lambda: False

    def on_step(self, event: StepEvent) -> None:
        self.step(event)

    def cancelled(self) -> bool:
        return self.stop()
