"""An optimization as a value, and a configuration as a choice of at most one value per slot."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from diffusers import StableDiffusionPipeline

    from core.optimizations.guidance_batch import SeparateHalves
    from core.optimizations.resolution import TwoPasses
    from core.platforms import Platform
    from core.record import Record
    from core.request import Job


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """The one number an optimization takes, for example a merge ratio."""

    label: str
    default: float
    minimum: float
    maximum: float
    step: float
    stepped: bool = False
    """Only whole steps from the minimum are values: there is no half a thread."""


class StepHook(Protocol):
    """What a patch may do inside the denoising loop."""

    def guided(self, call: int, sigma: float) -> bool:
        """Whether this UNet call (from 0, Heun makes two a step) gets the unconditional rows."""


Patch = Callable[
    ["StableDiffusionPipeline", "Job", "float | None", "Record"],
    AbstractContextManager["StepHook | TwoPasses | SeparateHalves | None"],
]
Prepare = Callable[["StableDiffusionPipeline", "float | None"], None]
Place = Callable[["StableDiffusionPipeline", "torch.device"], None]
Surround = Callable[["float | None"], AbstractContextManager[None]]
Probe = Callable[["torch.device", "torch.dtype"], None]
Lacks = Callable[[Path], "str | None"]


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """One value of one slot: plain data and plain functions.

    - `needs`: capabilities of `core.platforms.Platform` it cannot work without.
    - `probe`: one small real call on the device and dtype; raises with the reason it cannot work.
    - `lacks`: why a model, by its folder, has not what it takes; None where it has.
    - `load`: keyword arguments it passes to loading the pipeline.
    - `prepare`: what cannot be undone (compile, class swaps); gives the pipeline an entry of its
      own in the pool.
    - `place`: puts a prepared pipeline where it computes, in place of moving all of it to the
      device; an entry of its own in the pool too.
    - `patch`: a context manager around one job. It writes what really happened into the record
      and leaves no trace; it may yield a `StepHook`, or what two passes or separate
      halves need.
    - `surround`: a context manager that sets a global switch for one job. Every one is entered
      before the first patch, so that what a patch computes at its start is computed under it.
    - `draws`: it takes random numbers from torch's global generator, which no request seeds.
    """

    slot: str
    name: str
    summary: str
    changes: str = ""
    """What the user pays for it, in one phrase."""
    parameter: Parameter | None = None
    needs: frozenset[str] = frozenset()
    probe: Probe | None = None
    lacks: Lacks | None = None
    load: Mapping[str, Any] = field(default_factory=dict)
    prepare: Prepare | None = None
    place: Place | None = None
    patch: Patch | None = None
    surround: Surround | None = None
    draws: bool = False


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One switch: its options, and the value text that stands when nothing is said.

    `default` gives an option's value text for a platform, or `off` where doing nothing is a value.
    """

    name: str
    label: str
    options: tuple[Optimization, ...]
    default: Callable[["Platform"], str] = lambda platform: "off"


@dataclass(frozen=True)
class Configuration:
    """Slot → value text, sorted, without slots that are off; the same text everywhere.

    Made by `core.optimizations.configure`, which validates names and parameters and fills in
    defaults, so that equal configurations are equal values.
    """

    settings: tuple[tuple[str, str], ...] = ()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.settings)

    def get(self, slot: str) -> str:
        """The slot's value text, `off` where it has none."""
        return dict(self.settings).get(slot, "off")

    @property
    def key(self) -> str:
        """One canonical text, for example `attention=sdp precision=fp32`."""
        return " ".join(f"{slot}={value}" for slot, value in self.settings)

    def as_dict(self) -> dict[str, str]:
        return dict(self.settings)
