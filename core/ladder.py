"""What is given up, in which order, so that pictures take less memory.

From what changes a picture least to what changes it most or takes the most time; a rung that cannot
act where a choice stands is left out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from core.models import native_size
from core.optimization import Configuration
from core.optimizations import availability, chosen, configure
from core.platforms import Platform
from core.request import Request

Stage = Literal["load", "encode", "denoise", "decode"]
"""Of a run, as `core.run.Timings` names them."""
EVERY: frozenset[Stage] = frozenset({"load", "encode", "denoise", "decode"})

WHOLE_SCORES = ("none", "split-v1")
"""Attention options whose score matrices grow with the square of a picture's pixels."""
_TILE_STEP, _SMALLEST_TILE, _LARGEST_TILE = 32, 64, 1024
"""Pixels: what tiles are multiples of, and the sides that a step down chooses."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How pictures are to be computed: settings, and how many of them together."""

    configuration: Configuration
    batch_size: int


Settings = dict[str, str]
Down = Callable[[Choice, Request], "Settings | int | None"]
"""The settings to change, or the batch size instead; None where it cannot act."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One step down, which may be taken again where it can act again."""

    name: str
    relieves: frozenset[Stage]
    """Stages that take less memory by it."""
    down: Down


def _vae_slicing(choice: Choice, request: Request) -> Settings | None:
    together = choice.batch_size > 1
    off = choice.configuration.get("vae-slicing") == "off"
    return {"vae-slicing": "on"} if together and off else None


def _half_the_batch(choice: Choice, request: Request) -> int | None:
    return -(-choice.batch_size // 2) if choice.batch_size > 1 else None


def _halves(choice: Choice, request: Request) -> Settings | None:
    off = choice.configuration.get("guidance-batch") == "off"
    return {"guidance-batch": "separate"} if request.guidance_scale > 1 and off else None


def _offload_parts(choice: Choice, request: Request) -> Settings | None:
    return {"offload": "model"} if choice.configuration.get("offload") == "off" else None


def _no_whole_scores(choice: Choice, request: Request) -> Settings | None:
    if choice.configuration.get("attention") in WHOLE_SCORES:
        return {"attention": "sub-quadratic"}
    return None


def _tiles(choice: Choice, request: Request) -> Settings | None:
    """Half of the picture's larger side, or of the tiles that there are, and so on."""
    name, _, number = choice.configuration.get("vae-tiling").partition(":")
    side = max(request.width, request.height)
    if name != "off":
        side = int(float(number)) if number else native_size(request.model)
    half = min(side // 2 // _TILE_STEP * _TILE_STEP, _LARGEST_TILE)
    return {"vae-tiling": f"tiles:{half}"} if _SMALLEST_TILE <= half < side else None


def _cast_layers(choice: Choice, request: Request) -> Settings | None:
    off = choice.configuration.get("layerwise-casting") == "off"
    return {"layerwise-casting": "fp8"} if off else None


def _offload_layers(choice: Choice, request: Request) -> Settings | None:
    return {"offload": "sequential"} if choice.configuration.get("offload") == "model" else None


LADDER: tuple[Rung, ...] = (
    Rung(name="VAE slicing", relieves=frozenset({"decode"}), down=_vae_slicing),
    Rung(
        name="smaller batches",
        relieves=frozenset({"encode", "denoise", "decode"}),
        down=_half_the_batch,
    ),
    Rung(name="guidance in halves", relieves=frozenset({"denoise"}), down=_halves),
    Rung(name="offload of parts", relieves=EVERY, down=_offload_parts),
    Rung(
        name="no whole score matrices",
        relieves=frozenset({"denoise", "decode"}),
        down=_no_whole_scores,
    ),
    Rung(name="VAE tiling", relieves=frozenset({"decode"}), down=_tiles),
    Rung(name="layerwise casting", relieves=frozenset({"load", "denoise"}), down=_cast_layers),
    Rung(name="offload of layers", relieves=EVERY, down=_offload_layers),
)


def steps_down(
    choice: Choice, request: Request, platform: Platform, stage: Stage
) -> Iterator[Choice]:
    """One step down from the choice by each rung that gives the stage more room and can run here,
    in the ladder's order."""
    for rung in LADDER:
        if stage not in rung.relieves:
            continue
        change = rung.down(choice, request)
        if isinstance(change, int):
            yield replace(choice, batch_size=change)
        elif change is not None and (lower := _changed(choice, change, platform)) is not None:
            yield lower


def _changed(choice: Choice, change: Settings, platform: Platform) -> Choice | None:
    configuration = configure({**choice.configuration.as_dict(), **change}, platform)
    for option, _ in chosen(configuration):
        if option.slot in change and availability(option, platform) is not None:
            return None
    return replace(choice, configuration=configuration)


def told(before: Choice, after: Choice) -> str:
    """What one choice has that another had not, as a clause."""
    former, latter = before.configuration.as_dict(), after.configuration.as_dict()
    slots = [slot for slot in {**former, **latter} if former.get(slot) != latter.get(slot)]
    clauses = [
        f"{slot}={latter.get(slot, 'off')} instead of {former.get(slot, 'off')}"
        for slot in sorted(slots)
    ]
    if before.batch_size != after.batch_size:
        together = "1 picture" if after.batch_size == 1 else f"{after.batch_size} pictures"
        clauses.append(f"{together} at a time instead of {before.batch_size}")
    return ", ".join(clauses)
