"""Shadow twins: while nobody needs the machine, people's own pictures are made again by the
baseline's settings and compared, so that each can say what its settings did to it."""

import threading
import time
from datetime import UTC, datetime, timedelta

from audit.calibration import gates_of
from audit.pictures import load_picture
from audit.twin import Twin, twin_job, twin_of, without_twin
from core.optimizations import configure
from core.platforms import Platform, one_sentence
from core.run import Run
from core.store import Store
from webapp.audits import Audits
from webapp.jobs import JobQueue, QueueFull
from webapp.ticket import Ticket

OWNER = "shadow"
"""Whose the reruns are in the queue; no person's owner text looks like it."""
QUIET = 10.0
"""Seconds without work after which the machine counts as idle."""
RECENT = timedelta(days=1)
"""Older pictures are left alone: a server that starts must not rerun its whole history."""
_LOOK = 0.1
"""Seconds between two looks while it works; somebody who comes waits for a step, and for this."""


class Shadow:
    """Makes twins in a thread of its own, the newest picture's first. Gives way at once."""

    def __init__(
        self,
        store: Store,
        jobs: JobQueue,
        audits: Audits,
        platform: Platform,
        *,
        quiet: float = QUIET,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._audits = audits
        self._platform = platform
        self._baseline = configure({}, platform)
        self._quiet = quiet
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="seedproof-shadow", daemon=True)
        self._thread.start()

    def close(self, timeout: float = 10.0) -> None:
        self._end.set()
        self._thread.join(timeout)

    def expected(self, run: Run) -> bool:
        """Whether this run gets a twin here, if nobody needs the machine."""
        return not without_twin(run, self._baseline, self._platform.fingerprint)

    def _work(self) -> None:
        idle_since, anything_new = time.monotonic(), True
        while not self._end.wait(min(1.0, self._quiet)):
            if self._needed():
                idle_since, anything_new = time.monotonic(), True
            elif anything_new and time.monotonic() - idle_since >= self._quiet:
                anything_new = self._one()

    def _needed(self) -> bool:
        return self._jobs.busy or self._audits.running is not None

    def _somebody_waits(self, *, beside: bool) -> bool:
        """For the device, `beside` the twin itself where it waits, or for the server to end."""
        waiting = self._jobs.census()["waiting"] > int(beside)
        return waiting or self._audits.running is not None or not self._jobs.open

    def _one(self) -> bool:
        """Look after one picture; False where none is left."""
        since = datetime.now(UTC) - RECENT
        run = self._store.generation_without_twin(since.isoformat(timespec="milliseconds"))
        if run is None:
            return False
        if reason := without_twin(run, self._baseline, self._platform.fingerprint):
            self._store.add_twin(run.job.id, Twin(baseline=self._baseline.key, reason=reason))
        elif again := self._rerun(run):
            self._store.add_twin(run.job.id, _judged(run, again), again)
        return True

    def _rerun(self, run: Run) -> Run | None:
        """None where somebody needed the machine, so that it is made another time."""
        job = twin_job(run, self._baseline)
        try:
            ticket: Ticket | None = self._jobs.submit(job, OWNER, kept=False)
        except QueueFull:
            return None
        while ticket is not None and not ticket.closed:
            if self._end.is_set() or self._somebody_waits(beside=ticket.state == "waiting"):
                self._jobs.cancel(job.id, OWNER)
            time.sleep(_LOOK)
            ticket = self._jobs.look(job.id)
        if ticket is None or ticket.run is None or ticket.run.outcome == "cancelled":
            return None
        return ticket.run


def _judged(run: Run, again: Run) -> Twin:
    try:
        gates, _ = gates_of(run.job.requests[0].model)
        return twin_of(run, again, load_picture, gates)
    except Exception as error:
        # One picture that cannot be judged must not end the thread for all others.
        return Twin(baseline=again.job.configuration.key, reason=one_sentence(error))
