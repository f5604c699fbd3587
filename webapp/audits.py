"""Audits that this process runs: in a thread of ours, so that closing a tab loses nothing."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from audit.changes import short_name
from audit.estimate import estimate
from audit.execution import OpenWorker, Progress, Worker, run_audit
from audit.judgement import judge
from audit.plan import Plan, PlannedRun
from audit.schedule import expand
from core.history import NOBODY
from core.platforms import Platform, one_sentence
from core.request import Conditions, Job, Model, Watch
from core.run import Run
from core.store import Store
from webapp.jobs import JobQueue

State = Literal["running", "stopping", "stopped", "done", "failed"]

_PATIENCE = 0.2
"""Seconds between two looks at `cancelled` while pictures go first."""
_JUDGING_SHARE = 0.15
"""Most of an audit's time that judging half-done work may take."""


class Occupied(Exception):
    """An audit is running already; the text says what to do."""


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """One stretch of work on an audit, as it stood at one moment."""

    audit_id: str
    owner: str = NOBODY
    """Who asked for this stretch, and may end it."""
    state: State
    done: int
    total: int
    now: str = ""
    """What is running, in words."""
    seconds: float = 0.0
    """Spent over all sittings."""
    remaining: float | None = None
    reason: str = ""
    """One sentence where the state is `failed`."""
    judged: int = 0
    """Grows whenever the stored result is new."""


class Audits:
    """Runs one audit at a time. Pictures asked for meanwhile go first, between two of its runs."""

    def __init__(
        self,
        store: Store,
        platform: Platform,
        open_worker: OpenWorker,
        jobs: JobQueue,
    ) -> None:
        self._store = store
        self._platform = platform
        self._open_worker = open_worker
        self._jobs = jobs
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._sitting: Sitting | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> str | None:
        """The id of the audit that runs now."""
        sitting = self._sitting
        return sitting.audit_id if sitting and sitting.state in ("running", "stopping") else None

    def sitting(self, audit_id: str) -> Sitting | None:
        """This process's latest work on an audit; None where it did none since it started."""
        sitting = self._sitting
        return sitting if sitting and sitting.audit_id == audit_id else None

    def start(self, plan: Plan, model: Model, owner: str = NOBODY) -> str:
        """Begin a new audit; returns its id at once. Raises Occupied."""
        with self._lock:
            self._require_free()
            audit_id = self._store.add_audit(
                plan.name, plan=plan, platform=self._platform, model=model
            )
            self._begin(audit_id, plan, model, owner)
        return audit_id

    def resume(self, audit_id: str, owner: str = NOBODY) -> None:
        """Go on with a stopped audit, which is then this owner's to stop.

        Raises Occupied, or StoreError where there is none.
        """
        with self._lock:
            if self.running == audit_id:
                return
            self._require_free()
            plan = self._store.plan(audit_id, Plan)
            model = self._store.model(audit_id, Model)
            self._begin(audit_id, plan, model, owner)

    def stop(self, audit_id: str, owner: str = NOBODY, *, anybodys: bool = False) -> bool:
        """End after the step under way; everything finished is stored.

        False, and the audit goes on, where another asked for it, except where an admin or the
        server may stop `anybodys`, or where it does not run.
        """
        with self._lock:
            sitting = self._sitting
            if self.running != audit_id or sitting is None:
                return False
            if not anybodys and sitting.owner != owner:
                return False
            self._stop.set()
            self._change(state="stopping", now="stopping")
        return True

    def close(self, timeout: float = 15.0) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _require_free(self) -> None:
        if self.running is not None:
            raise Occupied(
                f"Audit {self.running} is running: stop it, or wait for it, and try again."
            )

    def _begin(self, audit_id: str, plan: Plan, model: Model, owner: str) -> None:
        self._stop = threading.Event()
        planned = {run.identity: run for run in expand(plan, self._platform)}
        self._sitting = Sitting(
            audit_id=audit_id,
            owner=owner,
            state="running",
            done=0,
            total=len(planned),
            now="starting",
        )
        self._thread = threading.Thread(
            target=self._work,
            args=(audit_id, plan, model, planned),
            name="seedproof-audit",
            daemon=True,
        )
        self._thread.start()

    def _work(
        self, audit_id: str, plan: Plan, model: Model, planned: Mapping[str, PlannedRun]
    ) -> None:
        try:
            store = self._store
            judging = _Judging(store, audit_id)
            done = store.identities(audit_id)
            self._change(done=len(done), seconds=store.audit(audit_id).seconds)

            def on_progress(progress: Progress) -> None:
                whole = estimate(tuple(planned.values())).seconds
                rest = estimate(tuple(planned.values()), done=store.identities(audit_id)).seconds
                self._change(
                    done=progress.done,
                    total=progress.total,
                    seconds=progress.seconds,
                    remaining=progress.seconds * rest / max(whole - rest, 0.1),
                )
                if progress.planned.block is None and judging.worthwhile():
                    self._change(judged=judging.judge())

            run_audit(
                store,
                plan,
                self._platform,
                model,
                lambda conditions: self._polite(conditions, plan, planned),
                audit_id=audit_id,
                on_progress=on_progress,
                stop=self._stop.is_set,
            )
            self._change(now="judging")
            self._change(judged=judging.judge())
            finished = store.audit(audit_id).finished_at is not None
            self._change(state="done" if finished else "stopped", now="", remaining=None)
        except Exception as error:
            self._change(state="failed", now="", remaining=None, reason=one_sentence(error))

    def _polite(
        self, conditions: Conditions, plan: Plan, planned: Mapping[str, PlannedRun]
    ) -> Worker:
        def told(job: Job) -> None:
            if entry := planned.get(job.id):
                self._change(now=_now(entry, plan))

        return _GivesWay(self._open_worker(conditions), self._jobs, told)

    def _change(self, **fields: object) -> None:
        if self._sitting is not None:
            if self._stop.is_set() and "state" not in fields:
                fields.pop("now", None)
            self._sitting = replace(self._sitting, **fields)  # type: ignore[arg-type]


class _Judging:
    """Judges an audit that is not complete, but not so often that it gets slower."""

    def __init__(self, store: Store, audit_id: str) -> None:
        self._store = store
        self._audit_id = audit_id
        self._again_at = 0.0
        self._count = 0

    def worthwhile(self) -> bool:
        return time.monotonic() >= self._again_at

    def judge(self) -> int:
        began = time.monotonic()
        judge(self._store, self._audit_id)
        took = time.monotonic() - began
        self._again_at = time.monotonic() + max(2.0, took / _JUDGING_SHARE)
        self._count += 1
        return self._count


class _GivesWay:
    """A worker that lets waiting pictures go first, because somebody sits before them."""

    def __init__(self, worker: Worker, jobs: JobQueue, told: Callable[[Job], None]) -> None:
        self._worker = worker
        self._jobs = jobs
        self._told = told

    def run(self, job: Job, watch: Watch) -> Run:
        while not watch.cancelled() and not self._jobs.wait_until_idle(_PATIENCE):
            pass
        self._told(job)
        return self._worker.run(job, watch)

    def close(self) -> None:
        self._worker.close()


def _now(entry: PlannedRun, plan: Plan) -> str:
    role = entry.role.replace("-", " ")
    row = "placebo" if entry.placebo else short_name(entry.configuration, plan.baseline)
    return f"{role}, prompt {entry.cluster + 1}: {row}"
