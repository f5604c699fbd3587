"""What happened: pictures with their digests, and the settings that really acted."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from core.request import Job, ProcessKind, Request

Effect = Literal["applied", "none", "fell-back"]
Outcome = Literal["ok", "cancelled", "failed"]
PartName = Literal["text-encoder", "unet", "guidance", "upscaler", "preview", "vae"]
"""Parts of the work on a picture; `guidance` is the arithmetic that joins the UNet's two halves,
whose rows it doubles, and `vae` the picture's own decoding."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a run. Digests are SHA-256 in hex over raw little-endian bytes."""

    request: Request
    noise_sha256: str
    """float32 initial noise (4, height/f, width/f), before it is scaled to the first sigma; with
    two passes that of the first, in its size."""
    latents_sha256: str
    """Final latents, in the dtype they had."""
    pixels_sha256: str
    """RGB, uint8, (height, width, 3)."""
    step_sha256s: tuple[str, ...] = ()
    """Latents after each of `num_inference_steps` steps, whatever the number of UNet calls in it,
    and after each of a second pass; empty when not captured."""
    path: Path | None = field(default=None, compare=False)
    """The PNG, named by its own SHA-256 in the engine's picture folder. Not compared: its receipt
    also tells after how much other work, and in which kind of process, the picture was made."""


@dataclass(frozen=True, kw_only=True)
class SlotEffect:
    """What one requested setting really did, decided by counts and never by pixels."""

    slot: str
    requested: str
    effect: Effect
    counts: dict[str, float] = field(default_factory=dict)
    """What the decision rests on: calls, tokens in and out, steps skipped, …"""
    operators: dict[str, int] = field(default_factory=dict)
    """torch operators seen inside the setting's own calls, by name."""
    weights_sha256: str = ""
    """Of the file whose weights the setting computed with beside the model's own; empty where
    there was none."""
    reason: str = ""
    """One sentence, always present when the effect is not `applied`."""


@dataclass(frozen=True, kw_only=True)
class TextSize:
    """How long one prompt is, and how much of it the UNet was given."""

    tokens: int
    """All of the text's, those that were cut included; without begin, end and padding."""
    chunks: int
    """That the text fills; each is encoded by itself."""
    chunk_tokens: int
    """That one chunk has room for: 75 with Stable Diffusion's text encoder."""
    padded_to: int
    """Chunks that the UNet was given: as many as the longest prompt of the batch has."""
    cut: int = 0
    """Tokens that did not reach the picture."""

    @property
    def keys(self) -> int:
        """Rows of the embedding, begin and end of every chunk included: cross-attention's keys."""
        return self.padded_to * (self.chunk_tokens + 2)


@dataclass(frozen=True, kw_only=True)
class Effective:
    """Every slot's effect, and notes on anything asked for that did not reach the picture."""

    slots: tuple[SlotEffect, ...] = ()
    notes: tuple[str, ...] = ()
    prompts: tuple[TextSize, ...] = ()
    """One per request of the batch."""
    negative_prompts: tuple[TextSize, ...] = ()
    """One per request, or none where there was no guidance."""
    unet_calls: int = 0
    """Counted at the UNet while denoising: as many as steps, with Heun nearly twice as many."""

    def slot(self, name: str) -> SlotEffect | None:
        return next((s for s in self.slots if s.slot == name), None)


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Wall seconds by stage. `load` has all that settings make ready before a run, compiling for
    instance; `steps` are the denoising steps in order."""

    load: float = 0.0
    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    save: float = 0.0
    steps: tuple[float, ...] = ()

    @property
    def picture(self) -> float:
        """What speed is compared by: denoising and decoding, without load, encoding and saving."""
        return self.denoise + self.decode


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peak bytes during the run; None where this device cannot tell."""

    peak_bytes: int | None
    kind: str
    """What the number is: `process high-water mark`, `allocated on device`, …"""
    reserved_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the pipeline, in all its calls of a run together."""

    name: PartName
    calls: int = 0
    seconds: float = 0.0
    """By the clock on the wall."""
    cpu_seconds: float = 0.0
    """Of all threads of the process."""
    peak_bytes: int | None = None
    """The highest in any call, of the same kind as the run's peak; None where it was not told."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the run took of the machine; runs of earlier versions have none."""

    parts: tuple[Part, ...] = ()
    loaded_bytes: int | None = None
    """In use when the pipeline stood ready, before anything was computed."""
    seconds: float = 0.0
    """The whole run, loading included."""
    cpu_seconds: float = 0.0
    """Of all threads of the process."""
    gpu_percent: float | None = None
    """Mean over the steps of how busy NVML found the GPU, with whatever else ran on it."""

    def part(self, name: PartName) -> Part | None:
        return next((part for part in self.parts if part.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where the run really happened, as the process itself saw it."""

    fingerprint: str
    """`Platform.fingerprint`."""
    device: str
    threads: int
    """Inside one operator while the pictures were made: the process's own, or a pinned number."""
    instruction_set: str
    process: ProcessKind
    """How this process came to be: forked after imports, or exec'd."""
    process_id: str
    """Unique among all processes of an audit: boot time, pid and start time."""
    calls_before: int
    """Runs this process had finished before this one."""
    versions: dict[str, str]
    started_at: str
    """ISO 8601, UTC."""
    generator_seed: int | None = None
    """Of torch's global generator, which every process seeds anew; None where no chosen option
    draws on it."""
    timing_caveat: str = ""
    """One sentence on why times taken here say nothing about a device of one's own; no audit counts
    them. Empty where they may be compared."""


def unknown_environment(process: ProcessKind = "same") -> Environment:
    """Of a run whose process never said where it was."""
    return Environment(
        fingerprint="",
        device="",
        threads=0,
        instruction_set="",
        process=process,
        process_id="",
        calls_before=0,
        versions={},
        started_at="",
    )


@dataclass(frozen=True, kw_only=True)
class Run:
    """A job and everything that is known about its execution."""

    job: Job
    outcome: Outcome
    environment: Environment
    pictures: tuple[Picture, ...] = ()
    effective: Effective = field(default_factory=Effective)
    timings: Timings = field(default_factory=Timings)
    memory: Memory = field(default_factory=lambda: Memory(peak_bytes=None, kind="not measured"))
    usage: Usage = field(default_factory=Usage)
    reason: str = ""
    """One clear sentence when the outcome is not `ok`."""
    shortage: str = ""
    """The stage, by its name in `Timings`, in which memory ran out; empty where it did not."""
    attempt: int = 1
    """2 where the process that first began the job died in it."""
