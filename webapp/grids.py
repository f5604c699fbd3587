"""Grids under way: their jobs go into the same queue as everybody's, a few at a time.

So a grid takes turns with other people's pictures, leaves its owner room for single ones, and goes
on when its tab is closed. What a restart interrupts can be continued: cells that are made stay.
"""

import contextvars
import threading
import uuid
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from audit.grid_figures import CellFigures, figures
from audit.pictures import load_picture
from core.database import StoreError
from core.grid import Grid
from core.request import Job
from core.run import Run
from core.store import Store
from webapp.jobs import JobQueue, QueueFull
from webapp.ticket import Ticket

AHEAD = 2
"""Jobs of one grid that are in the queue at a time: one runs, and the next one is known."""
REMEMBERED = 8
"""Grids whose runs are kept at hand for whoever looks."""


@dataclass
class _Known:
    """What was read and computed of one grid, under a lock of its own: comparing pictures takes
    long, and the queue's thread must not wait for it."""

    grid: Grid
    lock: threading.Lock = field(default_factory=threading.Lock)
    runs: dict[str, Run] = field(default_factory=dict)
    figures: dict[str, CellFigures] = field(default_factory=dict)


@dataclass
class _Line:
    """The jobs of a grid that are still to be made."""

    owner: str
    rest: deque[Job]
    queued: set[str] = field(default_factory=set)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    """Of whoever asked for the grid, for every job of it, see `webapp.entry`."""


@dataclass(frozen=True, kw_only=True)
class GridState:
    """A grid as it stood at one moment."""

    id: str
    grid: Grid
    runs: Mapping[str, Run]
    """Job id → run, of every job that has ended, however it did."""
    figures: Mapping[str, CellFigures | None]
    """Job id → figures, of every cell; None where it is still to come."""
    working: bool
    """Whether this process makes what is missing."""
    refused: str = ""
    """Why it went no further, in one sentence, where the queue took no more of it."""

    @property
    def done(self) -> int:
        return sum(job.id in self.runs for job in self.grid.jobs)

    @property
    def missing(self) -> tuple[Job, ...]:
        """Not made yet, or not to their end."""
        ok = {job_id for job_id, run in self.runs.items() if run.outcome == "ok"}
        return tuple(job for job in self.grid.jobs if job.id not in ok)


class Grids:
    """Feeds the queue. `closed` has to be told every ticket that closes."""

    def __init__(self, store: Store, jobs: JobQueue) -> None:
        self._store = store
        self._jobs = jobs
        self._lock = threading.RLock()
        self._lines: dict[str, _Line] = {}
        self._refused: dict[str, str] = {}
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def start(self, grid: Grid, name: str, owner: str) -> str:
        """Keep a grid and begin to make it; its id."""
        grid_id = uuid.uuid4().hex
        self._store.add_grid(grid_id, owner, name, grid)
        self._begin(grid_id, owner, grid.jobs)
        return grid_id

    def resume(self, grid_id: str, owner: str) -> None:
        """Make what is missing, where nobody makes it yet; what failed is tried again."""
        state, known = self.look(grid_id, owner), self._read(grid_id, owner)
        if state is None or known is None:
            return
        missing = state.missing
        with known.lock, self._lock:
            if grid_id in self._lines:
                return
            self._store.delete_generations([job.id for job in missing], owner)
            for job in missing:
                known.runs.pop(job.id, None)
            # A reference that is made anew makes what was compared with it void.
            known.figures.clear()
            self._begin(grid_id, owner, missing)

    def cancel(self, grid_id: str, owner: str) -> None:
        """Make no more of it; what is made stays. Another's grid goes on."""
        with self._lock:
            line = self._lines.get(grid_id)
            if line is None or line.owner != owner:
                return
            line.rest.clear()
            queued = tuple(line.queued)
        for job_id in queued:
            self._jobs.cancel(job_id, owner)

    def closed(self, ticket: Ticket) -> None:
        """A job ended: the next one of its grid, or of another grid of its owner, has room."""
        with self._lock:
            for grid_id, line in list(self._lines.items()):
                if line.owner == ticket.owner:
                    line.queued.discard(ticket.job.id)
                    self._feed(grid_id)

    def look(self, grid_id: str, owner: str) -> GridState | None:
        """None where the owner has no such grid."""
        known = self._read(grid_id, owner)
        if known is None:
            return None
        with known.lock:
            # Before the runs are read: a grid seen at rest has then nothing more to come.
            with self._lock:
                working, refused = grid_id in self._lines, self._refused.get(grid_id, "")
            wanted = [job.id for job in known.grid.jobs if job.id not in known.runs]
            if wanted:
                known.runs.update(self._store.runs_of(wanted, owner))
            for cell in known.grid.cells:
                if cell.job.id not in known.figures:
                    found = figures(cell, known.runs, load_picture)
                    if found is not None:
                        known.figures[cell.job.id] = found
            return GridState(
                id=grid_id,
                grid=known.grid,
                runs=dict(known.runs),
                figures={c.job.id: known.figures.get(c.job.id) for c in known.grid.cells},
                working=working,
                refused=refused,
            )

    def _begin(self, grid_id: str, owner: str, jobs: tuple[Job, ...]) -> None:
        with self._lock:
            self._refused.pop(grid_id, None)
            self._lines[grid_id] = _Line(owner, deque(jobs))
            self._feed(grid_id)

    def _feed(self, grid_id: str) -> None:
        line = self._lines[grid_id]
        while line.rest and len(line.queued) < AHEAD:
            job = line.rest[0]
            line.queued.add(job.id)
            try:
                line.context.run(self._jobs.submit, job, line.owner)
            except (QueueFull, ValueError, StoreError) as error:
                line.queued.discard(job.id)
                # Of a full queue one of the owner's own jobs waits before it, and tells when it
                # ends. What is refused otherwise would be refused again.
                if not isinstance(error, QueueFull) or not self._jobs.open:
                    self._refused[grid_id] = str(error)
                    line.rest.clear()
                break
            line.rest.popleft()
        if not line.rest and not line.queued:
            del self._lines[grid_id]

    def _read(self, grid_id: str, owner: str) -> _Known | None:
        key = (grid_id, owner)
        with self._lock:
            if key not in self._known:
                grid = self._store.grid(grid_id, owner, Grid)
                if grid is None:
                    return None
                self._known[key] = _Known(grid)
            self._known.move_to_end(key)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
            return self._known[key]
