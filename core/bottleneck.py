"""What held a run back, by its own figures, and the setting that follows from them.

A hint names what a setting does, never how much it would win: an audit measures that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from core.run import Part, PartName, Run
from core.sizes import gigabytes

PART_NAMES: Mapping[PartName, str] = {
    "text-encoder": "text encoder",
    "unet": "UNet",
    "guidance": "guidance arithmetic",
    "upscaler": "upscaling",
    "preview": "preview",
    "vae": "VAE",
}
IDLE = 0.6
"""A run whose UNet kept fewer than this share of its threads busy waited for something."""
MOSTLY_LOADED = 0.9
"""Where what is loaded is more of the peak than this, no part of the work decides it."""
_TILE_STEP = 32
"""Sides of tiles are multiples of it, up to the largest."""
_LARGEST_TILE = 1024


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """What takes most of one thing."""

    of: Literal["time", "memory"]
    part: PartName | None
    """None where it is no part's work: saving, or what is loaded."""
    sentence: str
    """With its figures."""
    hint: str = ""
    """What may be done, as one sentence; empty where nothing follows."""


def bottlenecks(run: Run) -> tuple[Bottleneck, ...]:
    """Of time, then of memory; none of a run that did not end well or did not measure its parts."""
    if run.outcome != "ok" or not run.usage.parts:
        return ()
    found = (_of_time(run), _of_memory(run))
    return tuple(bottleneck for bottleneck in found if bottleneck is not None)


def cores_busy(part: Part) -> float | None:
    """How many of the CPU's cores computed for it on average; None where it took no time."""
    return part.cpu_seconds / part.seconds if part.seconds else None


def _of_time(run: Run) -> Bottleneck | None:
    timings = run.timings
    whole = timings.encode + timings.denoise + timings.decode + timings.save
    part = max(run.usage.parts, key=lambda part: part.seconds)
    if whole <= 0:
        return None
    if timings.save > part.seconds:
        sentence = f"Saving takes {timings.save / whole:.0%} of the time."
        return Bottleneck(of="time", part=None, sentence=sentence)
    calls = "1 call" if part.calls == 1 else f"{part.calls} calls"
    name = PART_NAMES[part.name]
    return Bottleneck(
        of="time",
        part=part.name,
        sentence=f"The {name} takes {part.seconds / whole:.0%} of the time ({calls}).",
        hint=_TIME_HINTS.get(part.name, _no_hint)(run, part),
    )


def _of_memory(run: Run) -> Bottleneck | None:
    told = [part for part in run.usage.parts if part.peak_bytes is not None]
    loaded = run.usage.loaded_bytes
    if not told or loaded is None:
        return None
    part = max(told, key=lambda part: part.peak_bytes or 0)
    peak = part.peak_bytes or 0
    if loaded > MOSTLY_LOADED * peak:
        return Bottleneck(
            of="memory",
            part=None,
            sentence=f"{loaded / peak:.0%} of the peak is what stands loaded before the work.",
            hint=_loaded_hint(run),
        )
    return Bottleneck(
        of="memory",
        part=part.name,
        sentence=f"The {PART_NAMES[part.name]} holds the peak: it adds "
        f"{gigabytes(peak - loaded)} to the {gigabytes(loaded)} that stand loaded.",
        hint=_MEMORY_HINTS.get(part.name, _no_hint)(run, part),
    )


def _unet_time(run: Run, part: Part) -> str:
    busy, threads = cores_busy(part), run.environment.threads
    asked = run.job.requests[0]
    if run.environment.device == "cpu" and busy is not None and busy < IDLE * threads:
        return (
            f"It kept {busy:.1f} of {threads} threads busy: other programs want the cores too, or "
            "the picture is small for so many threads."
        )
    if asked.guidance_scale > 1 and not _applied(run, "min-sigma"):
        return (
            "Guidance doubles the rows of its calls: min-sigma leaves it out of those at small "
            "noise levels."
        )
    return "Fewer steps or a smaller picture take less."


def _vae_memory(run: Run, part: Part) -> str:
    pictures, asked = len(run.job.requests), run.job.requests[0]
    if pictures > 1 and not _applied(run, "vae-slicing"):
        return f"vae-slicing=on decodes the {pictures} pictures one after another."
    side = min(max(asked.width, asked.height) // 2 // _TILE_STEP * _TILE_STEP, _LARGEST_TILE)
    if side and not _applied(run, "vae-tiling"):
        return (
            f"vae-tiling=tiles:{side} decodes in tiles of {side} pixels; tiles change the picture "
            "where they meet."
        )
    return ""


def _unet_memory(run: Run, part: Part) -> str:
    pictures = len(run.job.requests)
    if run.job.configuration.get("attention") == "none":
        return "attention=none computes whole score matrices: attention=sub-quadratic does not."
    if pictures > 1:
        return f"Batches of fewer than {pictures} pictures take less."
    if run.job.requests[0].guidance_scale > 1 and not _applied(run, "guidance-batch"):
        return "guidance-batch=separate computes guidance's two halves one after the other."
    return "A smaller picture takes less."


def _loaded_hint(run: Run) -> str:
    if run.environment.device.startswith("cuda") and not _applied(run, "offload"):
        return "offload=model keeps the parts that do not compute in the computer's memory."
    if not _applied(run, "layerwise-casting") and run.environment.device != "cpu":
        return "layerwise-casting=fp8 lets the UNet's weights lie in 8 bits."
    return ""


def _no_hint(run: Run, part: Part) -> str:
    return ""


_TIME_HINTS: Mapping[PartName, Callable[[Run, Part], str]] = {
    "unet": _unet_time,
    "preview": lambda run, part: "A run without previews does not take it.",
    "upscaler": lambda run, part: "two-pass=latent enlarges without decoding and encoding.",
}
_MEMORY_HINTS: Mapping[PartName, Callable[[Run, Part], str]] = {
    "unet": _unet_memory,
    "vae": _vae_memory,
}


def _applied(run: Run, slot: str) -> bool:
    effect = run.effective.slot(slot)
    return effect is not None and effect.effect == "applied"
