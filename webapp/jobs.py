"""A queue in front of one engine: fair between people, and a cancel that frees the engine.

Gradio's own queue gives a cancelled event's place to the next one while the first still computes,
and forgets a job when its tab closes. So jobs run here, in a thread of ours, and pages only look.
"""

import contextlib
import contextvars
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from core.engine import Engine
from core.request import Following, Job, StepEvent
from core.run import Environment, Run
from webapp.ticket import CLOSED, State, Ticket


class QueueFull(Exception):
    """Too many jobs of one person are waiting; the text is for that person."""


@dataclass
class _Entry:
    """A job's changing state; only touched under the queue's lock."""

    job: Job
    owner: str
    kept: bool = True
    state: State = "waiting"
    step: StepEvent | None = None
    asked: float = field(default_factory=time.monotonic)
    started: float = 0.0
    waited: float = 0.0
    seconds: float = 0.0
    denoising: float = 0.0
    run: Run | None = None
    reason: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    """Of whoever asked. On ZeroGPU it says whose quota a job is counted against."""


class JobQueue:
    """Runs jobs one at a time on an engine, the person served longest ago first.

    - `finished` is told every run and its owner, whatever its outcome, before its ticket closes.
    - `closed` is told every ticket once it has closed.
    - `waiting_per_owner` keeps one person from filling the queue.
    - `remembered` closed tickets are kept for whoever still looks.
    """

    def __init__(
        self,
        engine: Engine,
        finished: Callable[[Run, str], None] = lambda run, owner: None,
        *,
        closed: Callable[[Ticket], None] = lambda ticket: None,
        waiting_per_owner: int = 8,
        remembered: int = 200,
    ) -> None:
        self._engine = engine
        self._finished = finished
        self._closed = closed
        self._waiting_per_owner = waiting_per_owner
        self._remembered = remembered
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._served: dict[str, int] = {}
        self._pace: float | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="seedproof-jobs", daemon=True)
        self._thread.start()

    def submit(self, job: Job, owner: str, *, kept: bool = True) -> Ticket:
        """Put a job at the end of its owner's line. Raises QueueFull.

        Of a job that is not `kept` only its ticket tells: `finished` is not told.
        """
        with self._changed:
            if self._closing:
                raise QueueFull("The server is stopping: reload the page in a moment.")
            mine = [entry for entry in self._waiting() if entry.owner == owner]
            if len(mine) >= self._waiting_per_owner:
                raise QueueFull(
                    f"You already have {len(mine)} pictures waiting: "
                    "let one finish, or cancel one, and try again."
                )
            self._entries[job.id] = _Entry(job, owner, kept)
            self._forget()
            self._changed.notify_all()
            return self._ticket(self._entries[job.id])

    def look(self, job_id: str) -> Ticket | None:
        """The ticket as it is now; None where the queue never knew it or has forgotten it."""
        with self._changed:
            entry = self._entries.get(job_id)
            return None if entry is None else self._ticket(entry)

    def cancel(self, job_id: str, owner: str) -> None:
        """A waiting job never starts; a running one stops before its next step.

        Another's job goes on.
        """
        with self._changed:
            entry = self._entries.get(job_id)
            if entry is None or entry.owner != owner or entry.state in CLOSED:
                return
            entry.stop.set()
            if entry.state != "waiting":
                return
            entry.state, entry.reason = "cancelled", "Cancelled before it began."
            entry.waited = time.monotonic() - entry.asked
            self._changed.notify_all()
            ticket = self._ticket(entry)
        self._tell(ticket)

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        with self._changed:
            return self._is_busy()

    @property
    def open(self) -> bool:
        """Whether a job could be asked for; not while the queue closes."""
        with self._changed:
            return not self._closing and self._thread.is_alive()

    def census(self) -> dict[str, int]:
        """How many jobs wait and how many run."""
        with self._changed:
            states = [entry.state for entry in self._entries.values()]
        return {"waiting": states.count("waiting"), "running": states.count("running")}

    def wait_until_idle(self, timeout: float) -> bool:
        """Sleep until nothing runs or waits; False where the time ran out first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_busy(), timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Cancel everything and end the thread."""
        with self._changed:
            self._closing = True
            for entry in self._entries.values():
                entry.stop.set()
            self._changed.notify_all()
        self._thread.join(timeout)

    def _is_busy(self) -> bool:
        return any(entry.state not in CLOSED for entry in self._entries.values())

    def _waiting(self) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.state == "waiting"]

    def _order(self) -> list[_Entry]:
        """The waiting entries in the order they will be served, if nobody else comes."""
        waiting, served = self._waiting(), dict(self._served)
        order: list[_Entry] = []
        while waiting:
            chosen = min(waiting, key=lambda entry: served.get(entry.owner, -1))
            served[chosen.owner] = max(served.values(), default=0) + 1
            waiting.remove(chosen)
            order.append(chosen)
        return order

    def _ticket(self, entry: _Entry) -> Ticket:
        before: list[_Entry] = []
        if entry.state == "waiting":
            order = self._order()
            running = [other for other in self._entries.values() if other.state == "running"]
            before = running + order[: order.index(entry)]
        running_for = time.monotonic() - entry.started if entry.state == "running" else None
        return Ticket(
            job=entry.job,
            owner=entry.owner,
            state=entry.state,
            ahead=len(before),
            wait=self._duration(before),
            waited=entry.waited or time.monotonic() - entry.asked,
            began=entry.started > 0,
            step=entry.step,
            seconds=entry.seconds if running_for is None else running_for,
            denoising=entry.denoising,
            run=entry.run,
            reason=entry.reason,
        )

    def _duration(self, entries: list[_Entry]) -> float | None:
        """Seconds that the steps of these entries will still take."""
        if self._pace is None:
            return None
        rest = (_work(e.job) * (1 - _share(e.step)) for e in entries)
        return self._pace * sum(rest)

    def _forget(self) -> None:
        closed = [job_id for job_id, entry in self._entries.items() if entry.state in CLOSED]
        for job_id in closed[: max(0, len(closed) - self._remembered)]:
            del self._entries[job_id]
        owners = {entry.owner for entry in self._entries.values()}
        self._served = {owner: n for owner, n in self._served.items() if owner in owners}

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            run = self._run(entry)
            try:
                if entry.kept:
                    self._finished(run, entry.owner)
            except Exception as error:
                run = _failed(entry.job, f"The picture was made but could not be kept: {error}")
            with self._changed:
                entry.run, entry.state, entry.reason = run, run.outcome, run.reason
                entry.context = contextvars.Context()
                entry.seconds = time.monotonic() - entry.started
                self._changed.notify_all()
                ticket = self._ticket(entry)
            self._tell(ticket)

    def _tell(self, ticket: Ticket) -> None:
        # A log that nobody reads any more must not end the work.
        with contextlib.suppress(OSError):
            self._closed(ticket)

    def _next(self) -> _Entry | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or bool(self._waiting()))
            if self._closing:
                return None
            entry = self._order()[0]
            self._served[entry.owner] = max(self._served.values(), default=0) + 1
            entry.state, entry.started = "running", time.monotonic()
            entry.waited = entry.started - entry.asked
            return entry

    def _run(self, entry: _Entry) -> Run:
        def on_step(event: StepEvent) -> None:
            with self._changed:
                entry.step = event
                entry.denoising += event.seconds
                self._pace = entry.denoising / (_work(entry.job) * _share(event))

        watch = Following(step=on_step, stop=entry.stop.is_set)
        try:
            return entry.context.run(self._engine.run, entry.job, watch)
        except Exception as error:
            what = str(error).strip().splitlines()[:1] or [type(error).__name__]
            return _failed(entry.job, f"The engine broke: {what[0]}")


def _work(job: Job) -> float:
    """Pixels times steps: what a job's time grows with, near enough for a queue."""
    return float(sum(r.width * r.height * r.num_inference_steps for r in job.requests))


def _share(step: StepEvent | None) -> float:
    return 0.0 if step is None else step.step / step.num_inference_steps


def _failed(job: Job, reason: str) -> Run:
    """A failed run of an engine that could not report one; nothing is known about where."""
    nowhere = Environment(
        fingerprint="",
        device="",
        threads=0,
        instruction_set="",
        process="same",
        process_id="",
        calls_before=0,
        versions={},
        started_at="",
    )
    return Run(job=job, outcome="failed", environment=nowhere, reason=reason)
