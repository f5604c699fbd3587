"""Schedules: the noise levels that a sampler steps through, by the names AUTOMATIC1111 shows.

`Automatic` leaves the levels to the sampler and to the model's own scheduler config. The others are
those of A1111 v1.10.1 (`sd_schedulers.py`): they run over the whole table of levels that the model
was trained on, and not over the part that a spacing of timesteps picks; the UNet is given timesteps
between the whole ones, found on the logarithm of the levels; and the first noise has the deviation
of the first level.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from core.record import Record

AUTOMATIC = "Automatic"
KARRAS = "Karras"
_RHO = 7
"""The exponent that Karras et al. choose below their equation 5."""
_LEVELS_AGREE = 1e-5
"""Relative: the scheduler keeps its levels in float32."""

Levels = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """`levels(steps, table)`: that many sigmas, falling, without the zero that follows them.

    The table has the level of every timestep, rising. None leaves the levels to the sampler.
    """

    name: str
    levels: Callable[[int, Levels], Levels] | None
    aliases: tuple[str, ...] = ()


def uniform(steps: int, table: Levels) -> Levels:
    """Equal strides over the timesteps, from the last to the first: what A1111 itself takes for
    most samplers where nothing is chosen."""
    return _at(np.linspace(len(table) - 1, 0, steps), table)


def sgm_uniform(steps: int, table: Levels) -> Levels:
    """Equal strides that would reach the first timestep one step later, as in Stability AI's
    generative models."""
    return _at(np.linspace(len(table) - 1, 0, steps + 1)[:-1], table)


def karras(steps: int, table: Levels) -> Levels:
    """Karras et al., "Elucidating the design space of diffusion-based generative models" (2022),
    equation 5."""
    low, high = table[0] ** (1 / _RHO), table[-1] ** (1 / _RHO)
    levels: Levels = (high + np.linspace(0, 1, steps) * (low - high)) ** _RHO
    return levels


def exponential(steps: int, table: Levels) -> Levels:
    """Each level is the same part of the one before."""
    levels: Levels = np.exp(np.linspace(np.log(table[-1]), np.log(table[0]), steps))
    return levels


SCHEDULES: tuple[Schedule, ...] = (
    Schedule(name=AUTOMATIC, levels=None),
    Schedule(name="Uniform", levels=uniform),
    Schedule(name=KARRAS, levels=karras),
    Schedule(name="Exponential", levels=exponential),
    Schedule(name="SGM Uniform", levels=sgm_uniform, aliases=("SGMUniform", "sgm_uniform")),
)


def find(name: str) -> Schedule:
    """The schedule of that name, in any case. Raises ValueError that lists the names."""
    wanted = " ".join(name.lower().split())
    for schedule in SCHEDULES:
        if wanted in (known.lower() for known in (schedule.name, *schedule.aliases)):
            return schedule
    known = ", ".join(schedule.name for schedule in SCHEDULES)
    raise ValueError(f"Unknown schedule {name!r}: choose one of {known}.")


def put(scheduler: Any, schedule: Schedule) -> None:
    """Replace the levels of a diffusers scheduler whose timesteps are set, in its own layout.

    A scheduler that counts in whole timesteps keeps doing so, with the nearest ones.
    """
    if schedule.levels is None:
        return
    table = levels_of(scheduler)
    levels = schedule.levels(scheduler.num_inference_steps, table)
    timesteps = np.interp(np.log(levels), np.log(table), np.arange(len(table)))
    kind = scheduler.timesteps.dtype
    if not kind.is_floating_point:
        timesteps = timesteps.round()
    # Heun tries each level but the first twice: at the end of one step, and in the next.
    again = np.array([1] + [scheduler.order] * (len(levels) - 1))
    sigmas = np.append(levels.repeat(again), 0.0)
    scheduler.sigmas = scheduler.sigmas.new_tensor(sigmas)
    scheduler.timesteps = scheduler.timesteps.new_tensor(timesteps.repeat(again), dtype=kind)


def levels_of(scheduler: Any) -> Levels:
    """sqrt((1 - ᾱ) / ᾱ) of every timestep, rising: the table that schedules run over."""
    kept = scheduler.alphas_cumprod
    table: Levels = (((1 - kept) / kept) ** 0.5).double().cpu().numpy()
    return table


class ScheduleRecord:
    """Compares the levels that a scheduler really steps through with those of the schedule."""

    def __init__(self, schedule: Schedule, record: "Record") -> None:
        self._schedule, self._record = schedule, record
        self._asked: list[float] = []
        self._seen: list[float] = []
        self._agree = 0

    def see(self, scheduler: Any, call: int) -> None:
        """To be called after every step of the scheduler; `call` counts its UNet calls from 0."""
        if self._schedule.levels is None:
            return
        if not self._asked:
            levels = self._schedule.levels(scheduler.num_inference_steps, levels_of(scheduler))
            self._asked = [levels[0], *levels[1:].repeat(scheduler.order)]
        level = float(scheduler.sigmas[scheduler.step_index - 1])
        self._seen.append(level)
        self._agree += math.isclose(level, self._asked[call], rel_tol=_LEVELS_AGREE)

    def conclude(self) -> None:
        """Nothing is recorded of `Automatic`, which asks for nothing."""
        if self._schedule.levels is None:
            return
        notes = self._record.slot("schedule", self._schedule.name)
        notes.counts["unet_calls"] = len(self._seen)
        notes.counts["at_its_levels"] = self._agree
        # Whole numbers would round the levels: the counter holds them as they are.
        notes.counts["sigma_of_first_call"] = self._seen[0]  # type: ignore[assignment]
        notes.counts["sigma_of_last_call"] = self._seen[-1]  # type: ignore[assignment]
        if other := len(self._seen) - self._agree:
            notes.conclude(
                "fell-back", f"{other} of {len(self._seen)} UNet calls were at other levels"
            )
        else:
            notes.conclude("applied")


def _at(timesteps: Levels, table: Levels) -> Levels:
    """The levels between the table's, on a logarithmic scale."""
    levels: Levels = np.exp(np.interp(timesteps, np.arange(len(table)), np.log(table)))
    return levels
