"""A grid of pictures: one request, varied along up to three axes, and the jobs that make it."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from core.grid_axis import PROMPT, Axis, put
from core.models import check
from core.optimization import Configuration
from core.optimizations import availability, chosen, configure, load_arguments, prepared_key
from core.platforms import Platform
from core.request import MOST_SEED, Job, Model, Request

MOST_PICTURES = 100
"""In one grid, with those of the baseline that are only compared with."""

Against = Literal["first", "baseline"]
"""What drift is measured against: the first cell, or each cell's own request made without any
optimization."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place of a grid."""

    place: tuple[int, ...]
    """Index into each axis' values, X first."""
    job: Job
    reference: str
    """Id of the job whose picture this one is compared with; the cell's own where it is that."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All that is known of a grid before any picture is made."""

    axes: tuple[Axis, ...]
    """X, Y and Z, as many as there are."""
    cells: tuple[Cell, ...]
    """X runs fastest, then Y, then Z."""
    against: Against
    references: tuple[Job, ...] = ()
    """Pictures of the baseline that stand in no cell."""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """In the order in which they are made: what is compared with first, and pictures of one
        prepared pipeline together, because loading another one costs more than a picture."""
        jobs = (*self.references, *(cell.job for cell in self.cells))
        first = {cell.reference for cell in self.cells}
        keys = {job.id: _pipeline(job.configuration) for job in jobs}
        order = {key: place for place, key in enumerate(dict.fromkeys(keys.values()))}
        return tuple(sorted(jobs, key=lambda job: (job.id not in first, order[keys[job.id]])))

    def labels(self, cell: Cell) -> tuple[tuple[str, str], ...]:
        """Name and value text on every axis, X first."""
        return labels(self.axes, cell.place)


def grid(
    request: Request,
    settings: Mapping[str, str],
    axes: tuple[Axis, ...],
    platform: Platform,
    *,
    against: Against = "first",
) -> Grid:
    """The jobs of every cell, each checked before the first is made.

    Raises ValueError with one sentence that names the cell.
    """
    if not axes:
        raise ValueError("A grid needs an axis: choose what to vary, and two or more values.")
    varied = [axis.name for axis in axes if axis.name != PROMPT]
    if twice := next((name for name in varied if varied.count(name) > 1), ""):
        raise ValueError(f"Two axes vary {twice}: only one of them could be seen. Change one.")
    sizes = [len(axis.values) for axis in axes]
    count = math.prod(sizes)
    if count > MOST_PICTURES:
        raise ValueError(
            f"{' × '.join(map(str, sizes))} are {count:,} pictures; a grid has at most "
            f"{MOST_PICTURES}: take fewer values."
        )
    probed: dict[Configuration, None] = {}
    jobs: dict[tuple[int, ...], Job] = {}
    for backwards in product(*(range(size) for size in reversed(sizes))):
        place = backwards[::-1]
        jobs[place] = _job(request, settings, axes, place, platform, probed)
    if against == "first":
        first = next(iter(jobs.values())).id
        return Grid(
            axes=axes,
            cells=tuple(Cell(place=p, job=job, reference=first) for p, job in jobs.items()),
            against=against,
        )
    return _beside_baseline(axes, jobs, configure({}, platform))


def labels(axes: tuple[Axis, ...], place: tuple[int, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((axis.name, axis.values[at]) for axis, at in zip(axes, place, strict=True))


def _beside_baseline(
    axes: tuple[Axis, ...], jobs: Mapping[tuple[int, ...], Job], baseline: Configuration
) -> Grid:
    """A cell of the baseline itself serves as reference; the others' are made besides."""
    known: dict[Request, Job] = {
        job.requests[0]: job
        for job in reversed(tuple(jobs.values()))
        if job.configuration == baseline
    }
    extra: dict[Request, Job] = {}
    for job in jobs.values():
        asked = job.requests[0]
        if asked not in known:
            extra[asked] = known[asked] = replace(job, id=uuid.uuid4().hex, configuration=baseline)
    total = len(jobs) + len(extra)
    if total > MOST_PICTURES:
        raise ValueError(
            f"{len(jobs)} cells and {len(extra)} pictures of the baseline are {total}; a grid has "
            f"at most {MOST_PICTURES}: take fewer values, or compare with the first cell."
        )
    return Grid(
        axes=axes,
        cells=tuple(
            Cell(place=place, job=job, reference=known[job.requests[0]].id)
            for place, job in jobs.items()
        ),
        against="baseline",
        references=tuple(extra.values()),
    )


def _job(
    request: Request,
    settings: Mapping[str, str],
    axes: tuple[Axis, ...],
    place: tuple[int, ...],
    platform: Platform,
    probed: dict[Configuration, None],
) -> Job:
    where = ", ".join(f"{name} {value}" for name, value in labels(axes, place))
    try:
        chosen_settings = dict(settings)
        for axis, at in zip(axes, place, strict=True):
            request, chosen_settings = put(request, chosen_settings, axis, axis.values[at])
        if not 0 <= request.seed <= MOST_SEED:
            raise ValueError(f"A seed is a whole number from 0 to {MOST_SEED}.")
        check(request)
        configuration = configure(chosen_settings, platform)
        if configuration not in probed:
            _require_available(configuration, platform, request.model)
            probed[configuration] = None
    except ValueError as error:
        raise ValueError(f"The cell {where} cannot be made: {error}") from None
    return Job(id=uuid.uuid4().hex, requests=(request,), configuration=configuration)


def _pipeline(configuration: Configuration) -> tuple[str, str]:
    """Equal where two configurations can be made with one loaded pipeline."""
    return repr(sorted(load_arguments(configuration).items())), prepared_key(configuration)


def _require_available(configuration: Configuration, platform: Platform, model: Model) -> None:
    for option, _ in chosen(configuration):
        if why_not := availability(option, platform, model.path):
            raise ValueError(f"{option.slot} {option.name} cannot run here: {why_not}.")
