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
from dataclasses import replace

from core.engine import Engine
from core.request import Following, Job, StepEvent
from core.run import Run, unknown_environment
from webapp.entry import Entry, ended, share, work
from webapp.ticket import CLOSED, Ticket


class QueueFull(Exception):
    """Too many jobs of one person are waiting; the text is for that person."""


class Stopping(QueueFull):
    """Nobody's job is taken any more."""


STOPPED = "The server was stopped before this was done: ask for it again."


class JobQueue:
    """Runs jobs one at a time on an engine, the person served longest ago first.

    - `finished` is told every run and its owner, whatever its outcome, before its ticket closes.
    - `closed` is told every ticket once it has closed.
    - `admit` is asked before a job is taken, with its owner and whether its pictures are kept, and
      raises ValueError with a sentence where it may not be.
    - `waiting_per_owner` keeps one person from filling the queue.
    - `remembered` closed tickets are kept for whoever still looks.
    """

    def __init__(
        self,
        engine: Engine,
        finished: Callable[[Run, str], None] = lambda run, owner: None,
        *,
        closed: Callable[[Ticket], None] = lambda ticket: None,
        admit: Callable[[Job, str, bool], None] = lambda job, owner, kept: None,
        waiting_per_owner: int = 8,
        remembered: int = 200,
    ) -> None:
        self._engine = engine
        self._finished = finished
        self._closed = closed
        self._admit = admit
        self._waiting_per_owner = waiting_per_owner
        self._remembered = remembered
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._served: dict[str, int] = {}
        self._pace: float | None = None
        self._changed = threading.Condition()
        self._leaving = self._closing = False
        self._thread = threading.Thread(target=self._work, name="seedproof-jobs", daemon=True)
        self._thread.start()

    def submit(self, job: Job, owner: str, *, kept: bool = True) -> Ticket:
        """Put a job at the end of its owner's line. Raises QueueFull, and what `admit` raises.

        Of a job that is not `kept` only its ticket tells: `finished` is not told.
        """
        self._admit(job, owner, kept)
        with self._changed:
            if self._leaving:
                raise Stopping("The server is stopping: try again in a moment.")
            mine = [entry for entry in self._waiting() if entry.owner == owner]
            if len(mine) >= self._waiting_per_owner:
                raise QueueFull(
                    f"You already have {len(mine)} pictures waiting: "
                    "let one finish, or cancel one, and try again."
                )
            self._entries[job.id] = Entry(job, owner, kept)
            self._forget()
            self._changed.notify_all()
            return self._ticket(self._entries[job.id])

    def look(self, job_id: str) -> Ticket | None:
        """The ticket as it is now; None where the queue never knew it or has forgotten it."""
        with self._changed:
            entry = self._entries.get(job_id)
            return None if entry is None else self._ticket(entry)

    def of(self, owner: str) -> tuple[Ticket, ...]:
        """One owner's tickets, the latest first."""
        with self._changed:
            mine = [entry for entry in self._entries.values() if entry.owner == owner]
            return tuple(self._ticket(entry) for entry in reversed(mine))

    def open_tickets(self) -> tuple[Ticket, ...]:
        """Everybody's jobs that have not ended: what runs, then what waits, as it is served."""
        with self._changed:
            running = [entry for entry in self._entries.values() if entry.state == "running"]
            return tuple(self._ticket(entry) for entry in (*running, *self._order()))

    def move(self, job_id: str, owner: str, to: int) -> bool:
        """Put a waiting job at place `to` of its owner's own line, from 0; others keep theirs.

        False, with nothing changed, where the owner has no such job waiting.
        """
        with self._changed:
            mine = [e.job.id for e in self._waiting() if e.owner == owner]
            if job_id not in mine:
                return False
            order = [one for one in mine if one != job_id]
            order.insert(max(0, to), job_id)
            # Entries are served in their order here: this owner's places are dealt out anew.
            places = iter(order)
            ids = [next(places) if one in mine else one for one in self._entries]
            self._entries = OrderedDict((one, self._entries[one]) for one in ids)
            self._changed.notify_all()
            return True

    def cancel(self, job_id: str, owner: str, *, anybodys: bool = False) -> None:
        """A waiting job never starts; a running one stops before its next step.

        Another's job goes on, except where an admin may cancel `anybodys`.
        """
        with self._changed:
            entry = self._entries.get(job_id)
            if entry is None or entry.state in CLOSED:
                return
            if entry.owner != owner and not anybodys:
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
        """Whether a job could be asked for; not while the queue drains or closes."""
        with self._changed:
            return not self._leaving and self._thread.is_alive()

    def census(self) -> dict[str, int]:
        """How many jobs wait and how many run."""
        with self._changed:
            states = [entry.state for entry in self._entries.values()]
        return {"waiting": states.count("waiting"), "running": states.count("running")}

    def wait_until_idle(self, timeout: float) -> bool:
        """Sleep until nothing runs or waits; False where the time ran out first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_busy(), timeout)

    def drain(self, seconds: float) -> bool:
        """Take nothing more, and give what runs and waits this long; False where it was not enough.

        What is left then is for `close`.
        """
        with self._changed:
            self._leaving = True
        return self.wait_until_idle(seconds)

    def close(self, timeout: float = 10.0) -> None:
        """Stop what runs, fail what waits with the reason, and end the thread."""
        with self._changed:
            self._leaving = self._closing = True
            waiting = self._waiting()
            for entry in self._entries.values():
                entry.stop.set()
            for entry in waiting:
                entry.state, entry.reason = "failed", STOPPED
                entry.waited = time.monotonic() - entry.asked
            self._changed.notify_all()
            tickets = [self._ticket(entry) for entry in waiting]
        for ticket in tickets:
            self._tell(ticket)
        self._thread.join(timeout)

    def _is_busy(self) -> bool:
        return any(entry.state not in CLOSED for entry in self._entries.values())

    def _waiting(self) -> list[Entry]:
        return [entry for entry in self._entries.values() if entry.state == "waiting"]

    def _order(self) -> list[Entry]:
        """The waiting entries in the order they will be served, if nobody else comes."""
        waiting, served = self._waiting(), dict(self._served)
        order: list[Entry] = []
        while waiting:
            chosen = min(waiting, key=lambda entry: served.get(entry.owner, -1))
            served[chosen.owner] = max(served.values(), default=0) + 1
            waiting.remove(chosen)
            order.append(chosen)
        return order

    def _ticket(self, entry: Entry) -> Ticket:
        before: list[Entry] = []
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

    def _duration(self, entries: list[Entry]) -> float | None:
        """Seconds that the steps of these entries will still take."""
        if self._pace is None:
            return None
        rest = (work(e.job) * (1 - share(e.step)) for e in entries)
        return self._pace * sum(rest)

    def _forget(self) -> None:
        # By their ends: one that waited long would else be forgotten as soon as it ended.
        closed = sorted((e for e in self._entries.values() if e.state in CLOSED), key=ended)
        for entry in closed[: max(0, len(closed) - self._remembered)]:
            del self._entries[entry.job.id]
        owners = {entry.owner for entry in self._entries.values()}
        self._served = {owner: n for owner, n in self._served.items() if owner in owners}

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            run = self._run(entry)
            if run.outcome == "cancelled" and self._closing:
                run = replace(run, reason=STOPPED)
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

    def _next(self) -> Entry | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or bool(self._waiting()))
            if self._closing:
                return None
            entry = self._order()[0]
            self._served[entry.owner] = max(self._served.values(), default=0) + 1
            entry.state, entry.started = "running", time.monotonic()
            entry.waited = entry.started - entry.asked
            return entry

    def _run(self, entry: Entry) -> Run:
        def on_step(event: StepEvent) -> None:
            with self._changed:
                entry.step = event
                # A job that starts over, with less memory or in a new process, counts anew.
                entry.denoising = event.seconds + (entry.denoising if event.step > 1 else 0.0)
                self._pace = entry.denoising / (work(entry.job) * share(event))

        watch = Following(step=on_step, stop=entry.stop.is_set)
        try:
            return entry.context.run(self._engine.run, entry.job, watch)
        except Exception as error:
            what = str(error).strip().splitlines()[:1] or [type(error).__name__]
            return _failed(entry.job, f"The engine broke: {what[0]}")


def _failed(job: Job, reason: str) -> Run:
    """A run of an engine that could not report one."""
    return Run(job=job, outcome="failed", environment=unknown_environment(), reason=reason)
