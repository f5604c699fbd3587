"""Carries a plan out: every group of runs in new processes, and nothing twice."""

import math
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from time import monotonic
from typing import Literal, Protocol

from audit.patience import Pace, Patience, not_made
from audit.plan import Plan, PlannedRun
from audit.schedule import Group, expand, groups_of
from core.engine import Engine
from core.lease import lease
from core.platforms import Platform
from core.request import Conditions, Following, Job, Model
from core.run import Run
from core.store import Store


class Worker(Engine, Protocol):
    """An engine in a process of its own, which making it has started and `close` ends."""

    def close(self) -> None: ...


OpenWorker = Callable[[Conditions], Worker]
"""Starts a process as the conditions say (`process`, `threads`), without waiting for it."""

EXEC_AHEAD = 5
"""How many groups before its turn an exec'd process starts: about as long as its imports take."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Told after every stored run."""

    audit_id: str
    planned: PlannedRun
    run: Run
    done: int
    """Runs stored, this one included."""
    total: int
    seconds: float
    """Spent in runs and process starts, over all sittings."""


class AuditMismatch(ValueError):
    """An audit cannot be continued with what was given; one sentence why."""


def run_audit(
    store: Store,
    plan: Plan,
    platform: Platform,
    model: Model,
    open_worker: OpenWorker,
    audit_id: str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> str:
    """Begin an audit, or continue the one with this id, until done or stopped; returns its id.

    A run is stored the moment it ends. What was complete is not rerun; a group that was
    interrupted is rerun as a whole, and its earlier runs move to the excluded ones when the first
    new one is stored. To judge runs while they come, read them from another `Store`, or from this
    one in `on_progress`, whose time is not counted. Raises AuditMismatch.
    """
    if audit_id is None:
        audit_id = store.add_audit(plan.name, plan=plan, platform=platform, model=model)
    else:
        _require_same(store, audit_id, plan, platform)
    with lease(f"audit-{audit_id}", store.path.parent / "locks", stop=lambda: True) as owned:
        if not owned:
            raise AuditMismatch(f"Audit {audit_id} is being run by another process.")
        planned, patience = expand(plan, platform), Patience(plan)
        _run_groups(store, audit_id, planned, patience, open_worker, on_progress, stop)
    return audit_id


def _run_groups(
    store: Store,
    audit_id: str,
    planned: Sequence[PlannedRun],
    patience: Patience,
    open_worker: OpenWorker,
    on_progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> None:
    groups = groups_of(planned)
    earlier = store.runs(audit_id)
    stored = _complete(groups.values(), earlier)
    for entry in planned:
        if entry.identity in earlier:
            patience.learn(entry, earlier[entry.identity])
    seconds = store.audit(audit_id).seconds
    began = monotonic()
    for entry, run in execute(planned, stored, open_worker, patience, stop):
        spent = monotonic() - began
        group = groups[entry.group]
        void = [run.identity for run in group] if entry == group[0] else []
        store.add_run(audit_id, entry.identity, run, seconds=spent, instead_of=void)
        stored = stored.difference(void) | {entry.identity}
        seconds += spent
        on_progress(
            Progress(
                audit_id=audit_id,
                planned=entry,
                run=run,
                done=len(stored),
                total=len(planned),
                seconds=seconds,
            )
        )
        began = monotonic()
    if len(stored) == len(planned):
        store.finish_audit(audit_id)


def execute(
    planned: Sequence[PlannedRun],
    stored: Collection[str],
    open_worker: OpenWorker,
    patience: Patience,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[PlannedRun, Run]]:
    """Make every run of every group that is not completely among `stored`, in the given order.

    A group whose run fails is made once more, from its first run and in new processes, so that a
    run may come twice: the first run of a group makes all earlier ones of the group void. What
    fails again is yielded as failed, and so are the later runs of the same process.

    While one worker computes, the next one's process already starts (and the next exec'd one's, if
    it is near), except around timed runs: there nothing else may happen, and all processes of a
    session have done their warm-up before the first timed block.
    """
    groups = groups_of(planned).values()
    done = _complete(groups, stored)
    waiting = [group for group in groups if group[0].identity not in done]
    bench = _Bench(open_worker, patience)
    try:
        for place, group in enumerate(waiting):
            for final in (False, True):
                if stop():
                    return
                bench.open(group)
                for later in _ahead(waiting[place : place + EXEC_AHEAD + 1]):
                    bench.open(later)
                ending = yield from _attempt(group, bench, patience, stop, final)
                bench.close(group)
                if ending == "stopped":
                    return
                if ending == "done":
                    break
    finally:
        bench.close_all()


def _attempt(
    group: Group,
    bench: "_Bench",
    patience: Patience,
    stop: Callable[[], bool],
    final: bool,
) -> Generator[tuple[PlannedRun, Run], None, Literal["done", "failed", "stopped"]]:
    """Make a group's runs. The first failure ends the attempt, unless it is the final one."""
    broken: dict[str, Run] = {}
    for entry in group:
        if skipped := patience.skipped(entry):
            broken[entry.process] = skipped
            yield entry, skipped
            continue
        if failure := broken.get(entry.process):
            reason = f"Not tried, as an earlier run of its process failed: {failure.reason}"
            yield entry, not_made(entry, failure, reason)
            continue
        if stop():
            return "stopped"
        worker, pace = bench.workers[entry.process], patience.pace(entry, stop)
        run = worker.run(entry.job, pace)
        if pace.tired and run.outcome == "cancelled" and patience.reference is not None:
            if not final:
                return "failed"
            baseline = bench.alone(patience.reference, stop)
            confirmed = patience.slower(run, pace, baseline)
            pace = patience.pace(entry, stop) if confirmed else Pace(stop=stop, limit=math.inf)
            run = worker.run(entry.job, pace)
            if pace.tired and run.outcome == "cancelled":
                run = patience.give_up(run, pace, baseline)
        if run.outcome == "cancelled":
            return "stopped"
        if run.outcome == "failed":
            if not final:
                return "failed"
            broken[entry.process] = run
        patience.learn(entry, run)
        yield entry, run
    return "done"


def _ahead(groups: Sequence[Group]) -> Iterator[Group]:
    """Of the groups to come after the first of these, those whose processes start already.

    The next one, and the next exec'd one: importing everything anew takes it as long as several
    forked ones run. Nothing starts beside a timed run, hence none before or past a session.
    """
    untimed = list(takewhile(lambda group: not _timed(group), groups))[1:]
    yield from untimed[:1]
    yield from [group for group in untimed[1:] if _execd(group)][:1]


class _Bench:
    """The workers that are alive, by label."""

    def __init__(self, open_worker: OpenWorker, patience: Patience) -> None:
        self.workers: dict[str, Worker] = {}
        self._open_worker = open_worker
        self._patience = patience

    def open(self, group: Group) -> None:
        """Start the group's processes that are not yet and that have something to do."""
        for entry in group:
            if entry.process not in self.workers and not self._patience.skipped(entry):
                self.workers[entry.process] = self._open_worker(entry.job.conditions)

    def alone(self, job: Job, stop: Callable[[], bool]) -> Run:
        """A job in a new process of its own, after one to warm up."""
        worker = self._open_worker(job.conditions)
        try:
            worker.run(job, Following(stop=stop))
            return worker.run(job, Following(stop=stop))
        finally:
            worker.close()

    def close(self, group: Group) -> None:
        self._close({entry.process for entry in group})

    def close_all(self) -> None:
        self._close(set(self.workers))

    def _close(self, labels: set[str]) -> None:
        with ExitStack() as stack:
            for label in labels & set(self.workers):
                stack.callback(self.workers.pop(label).close)


def _complete(groups: Iterable[Group], stored: Collection[str]) -> set[str]:
    """The identities of all groups that miss no run."""
    return {
        run.identity
        for group in groups
        if all(member.identity in stored for member in group)
        for run in group
    }


def _timed(group: Group) -> bool:
    return group[0].role in ("timing", "platform")


def _execd(group: Group) -> bool:
    return group[0].job.conditions.process == "exec"


def _require_same(store: Store, audit_id: str, plan: Plan, platform: Platform) -> None:
    """An audit is one plan on one platform, whenever its parts are run."""
    earlier_plan, earlier = store.plan(audit_id, Plan), store.platform(audit_id, Platform)
    if earlier.fingerprint != platform.fingerprint:
        raise AuditMismatch(
            f"Audit {audit_id} was begun on another platform ({earlier.device_name}, torch "
            f"{earlier.versions.get('torch', 'unknown')}): its runs cannot be compared with new "
            "ones; start a new audit."
        )
    if {r.identity for r in expand(earlier_plan, earlier)} != {
        r.identity for r in expand(plan, platform)
    }:
        raise AuditMismatch(
            f"Audit {audit_id} was planned otherwise (plan {earlier_plan.name!r}, model "
            f"{earlier_plan.requests[0].model.name!r}): continue it with that plan and the same "
            "weights, or start a new audit."
        )
