"""Carrying a plan out with fake workers: what runs where, what is repeated, what is never."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from audit.execution import AuditMismatch, Progress, Worker, execute, run_audit
from audit.patience import Pace, Patience
from audit.plan import Plan, PlannedRun
from audit.schedule import expand, groups_of
from core.lease import lease
from core.optimization import Configuration
from core.request import Conditions, Following, Job, Request, StepEvent, Watch
from core.run import Run
from core.store import Store
from tests.fake_engine import MODEL, PLATFORM, Behaviour, FakeWorkers

BASELINE = Configuration((("attention", "sdp"),))
CANDIDATE = Configuration((("attention", "none"),))
PLAN = Plan(
    name="test",
    baseline=BASELINE,
    candidates=(CANDIDATE,),
    requests=tuple(
        Request(prompt="a cat", model=MODEL, seed=seed, num_inference_steps=3, width=16, height=16)
        for seed in (1, 2, 3)
    ),
    axes={"after-other-work": (BASELINE.key,), "batch-size": (CANDIDATE.key,)},
    timing_blocks=2,
)
PLANNED = expand(PLAN, PLATFORM)


class Stop:
    """Says stop once it was asked so many times."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self) -> bool:
        self.after -= 1
        return self.after < 0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "seedproof.db") as store:
        yield store


def audit(store: Store, workers: FakeWorkers, audit_id: str | None = None, **more: object) -> str:
    return run_audit(store, PLAN, PLATFORM, MODEL, workers, audit_id=audit_id, **more)  # type: ignore[arg-type]


def everything(workers: FakeWorkers, plan: Plan = PLAN) -> list[tuple[PlannedRun, Run]]:
    return list(execute(expand(plan, PLATFORM), (), workers, Patience(plan)))


def assert_never_mixed(store: Store, audit_id: str) -> None:
    """Every label's runs are of one process, and every process has one label."""
    runs = store.runs(audit_id)
    processes: dict[str, set[str]] = {}
    for entry in PLANNED:
        if entry.identity in runs:
            process_id = runs[entry.identity].environment.process_id
            processes.setdefault(entry.process, set()).add(process_id)
    assert all(len(ids) == 1 for ids in processes.values())
    assert len({process_id for ids in processes.values() for process_id in ids}) == len(processes)


def test_every_planned_run_is_made_once_and_in_order() -> None:
    workers = FakeWorkers()
    made = everything(workers)
    assert [entry for entry, _ in made] == list(PLANNED)
    assert all(run.outcome == "ok" and run.job == entry.job for entry, run in made)
    assert not workers.alive


def test_every_label_has_a_process_of_its_own_made_as_its_conditions_say() -> None:
    workers = FakeWorkers()
    labels: dict[str, set[str]] = {}
    for entry, run in everything(workers):
        labels.setdefault(entry.process, set()).add(run.environment.process_id)
        assert run.environment.process == entry.job.conditions.process
        assert run.environment.threads == (entry.job.conditions.threads or PLATFORM.threads)
    assert all(len(ids) == 1 for ids in labels.values())
    assert len(workers.opened) == len(labels)


def test_one_process_starts_ahead_and_one_execd_and_none_around_timed_runs() -> None:
    workers = FakeWorkers()
    alive = Counter[str]()
    session = {entry.process for entry in PLANNED if entry.role == "timing"}
    for entry, _ in execute(PLANNED, (), workers, Patience(PLAN)):
        timed = entry.role == "timing"
        if timed:
            assert len(workers.alive) == len(session)
        kinds = Counter(worker.conditions.process for worker in workers.alive)
        alive["most"] = max(alive["most"], len(workers.alive) if not timed else 0)
        assert timed or kinds["exec"] <= 2
    assert alive["most"] == 3


def test_all_processes_of_a_session_have_warmed_up_before_the_first_timed_block() -> None:
    workers = FakeWorkers()
    session = [entry for entry in PLANNED if entry.role == "timing"]
    warm: set[str] = set()
    for entry, run in execute(PLANNED, (), workers, Patience(PLAN)):
        if entry.role != "timing":
            continue
        if entry.block == 0:
            warm.add(run.environment.process_id)
            assert run.environment.calls_before == 0
        else:
            assert len(warm) == len({entry.process for entry in session})
            assert run.environment.process_id in warm


def test_a_worker_is_closed_as_soon_as_its_last_run_is_done() -> None:
    workers = FakeWorkers()
    session = {entry.process for entry in PLANNED if entry.role == "timing"}
    for entry, _ in execute(PLANNED, (), workers, Patience(PLAN)):
        used = sum(worker.calls > 0 for worker in workers.alive)
        assert used <= len(session) if entry.role == "timing" else used == 1
    assert not workers.alive


def test_an_audit_is_stored_as_it_runs(store: Store) -> None:
    seen: list[Progress] = []

    def on_progress(progress: Progress) -> None:
        assert progress.planned.identity in store.identities(progress.audit_id)
        seen.append(progress)

    audit_id = audit(store, FakeWorkers(), on_progress=on_progress)
    assert [progress.done for progress in seen] == list(range(1, len(PLANNED) + 1))
    assert {progress.total for progress in seen} == {len(PLANNED)}
    entry = store.audit(audit_id)
    assert entry.finished_at
    assert entry.seconds == pytest.approx(seen[-1].seconds)
    assert store.plan(audit_id, Plan) == PLAN
    assert store.identities(audit_id) == {entry.identity for entry in PLANNED}
    assert not store.excluded_runs(audit_id)


@pytest.mark.parametrize("after", range(1, 200, 17))
def test_stopped_anywhere_and_resumed_nothing_complete_is_rerun_or_lost(
    store: Store, after: int
) -> None:
    first = FakeWorkers()
    audit_id = audit(store, first, stop=Stop(after))
    assert not first.alive
    early = store.runs(audit_id)
    complete = {
        entry.identity
        for group in groups_of(PLANNED).values()
        if all(member.identity in early for member in group)
        for entry in group
    }
    second = FakeWorkers(number_from=1000)
    assert audit(store, second, audit_id) == audit_id
    late = store.runs(audit_id)
    assert late.keys() == {entry.identity for entry in PLANNED}
    assert {identity for identity in complete if late[identity] != early[identity]} == set()
    assert len(early) - len(complete) == len(store.excluded_runs(audit_id))
    made = sum(event.startswith("run") for event in second.events)
    assert made == len(PLANNED) - len(complete)
    assert_never_mixed(store, audit_id)
    assert store.audit(audit_id).finished_at


def test_a_complete_audit_starts_no_process(store: Store) -> None:
    audit_id = audit(store, FakeWorkers())
    again = FakeWorkers()
    audit(store, again, audit_id)
    assert again.events == []


def test_seconds_add_up_over_sittings(store: Store) -> None:
    audit_id = audit(store, FakeWorkers(), stop=Stop(20))
    early = store.audit(audit_id).seconds
    seen: list[Progress] = []
    audit(store, FakeWorkers(), audit_id, on_progress=seen.append)
    assert seen[0].seconds > early > 0
    assert store.audit(audit_id).seconds == pytest.approx(seen[-1].seconds)


def test_time_spent_in_on_progress_is_not_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("audit.execution.monotonic", lambda: clock[0])

    def judge(progress: Progress) -> None:
        clock[0] += 100

    def dies(number: int, job: Job) -> bool:
        clock[0] += 1
        return False

    audit_id = audit(store, FakeWorkers(dies=dies), on_progress=judge)
    assert store.audit(audit_id).seconds == len(PLANNED)


def dying_once(role: str, repeat: int) -> FakeWorkers:
    """Workers of which the first that gets to this run dies in it."""
    victims = {e.identity for e in PLANNED if (e.role, e.repeat) == (role, repeat)}
    dead: list[int] = []

    def dies(number: int, job: Job) -> bool:
        if job.id in victims and not dead:
            dead.append(number)
            return True
        return False

    return FakeWorkers(dies=dies)


def test_a_group_whose_worker_died_is_made_once_more_in_a_new_process(store: Store) -> None:
    workers = dying_once("determinism", 1)
    audit_id = audit(store, workers)
    runs = store.runs(audit_id)
    assert all(run.outcome == "ok" for run in runs.values())
    ((identity, excluded, _),) = store.excluded_runs(audit_id)
    assert runs[identity].environment.process_id != excluded.environment.process_id
    assert_never_mixed(store, audit_id)
    assert not workers.alive


def test_a_timing_session_is_made_once_more_as_a_whole(store: Store) -> None:
    session = [entry for entry in PLANNED if entry.role == "timing"]
    victim = session[-1].identity
    dead: list[int] = []
    workers = FakeWorkers(
        dies=lambda number, job: job.id == victim and not dead and not dead.append(number)  # type: ignore[func-returns-value]
    )
    audit_id = audit(store, workers)
    assert len(store.excluded_runs(audit_id)) == len(session) - 1
    assert all(run.outcome == "ok" for run in store.runs(audit_id).values())
    assert_never_mixed(store, audit_id)


def test_what_dies_twice_is_stored_as_failed_and_never_tried_again(store: Store) -> None:
    victim = next(e for e in PLANNED if e.role == "determinism" and e.repeat == 0)
    tried: list[int] = []

    def dies(number: int, job: Job) -> bool:
        if job.id == victim.identity:
            tried.append(number)
        return job.id == victim.identity

    workers = FakeWorkers(dies=dies)
    audit_id = audit(store, workers)
    assert len(tried) == len(set(tried)) == 2
    runs = store.runs(audit_id)
    failed = {identity for identity, run in runs.items() if run.outcome == "failed"}
    assert failed == {e.identity for e in PLANNED if e.process == victim.process}
    assert "SIGKILL" in runs[victim.identity].reason
    for identity in failed - {victim.identity}:
        assert runs[identity].reason.startswith("Not tried, as an earlier run of its process")
    assert store.audit(audit_id).finished_at, "an audit ends, also where something cannot be done"
    audit(store, workers, audit_id)
    assert len(tried) == 2


def test_one_failing_configuration_costs_a_session_only_its_own_rows(store: Store) -> None:
    workers = FakeWorkers(behaviours={"attention=none": Behaviour(fails="No such kernel.")})
    audit_id = audit(store, workers)
    runs = store.runs(audit_id)
    for entry in PLANNED:
        expected = "failed" if entry.job.configuration == CANDIDATE else "ok"
        if entry.role != "after-other-work":  # its other work is the candidate's
            assert runs[entry.identity].outcome == expected


def test_a_hopelessly_slow_candidate_is_given_up_after_one_run(store: Store) -> None:
    workers = FakeWorkers(behaviours={"attention=none": Behaviour(slowdown=50)})
    audit_id = audit(store, workers)
    runs = store.runs(audit_id)
    rows = [entry for entry in PLANNED if entry.configuration == CANDIDATE]
    assert {runs[entry.identity].outcome for entry in rows} == {"failed"}
    reasons = {runs[entry.identity].reason for entry in rows}
    assert reasons == {
        "Given up: even its fastest step took 0.5 s a picture, 50 times the 0.01 s that the "
        "baseline took right before, and the plan waits for 10 times."
    }
    others = [e for e in PLANNED if e.configuration == BASELINE and e.role != "after-other-work"]
    assert all(runs[e.identity].outcome == "ok" for e in others if e.role != "other-work")
    assert store.audit(audit_id).finished_at


class Busy:
    """A machine that something else slows down, fifty times, for as long as `during` says."""

    def __init__(self, during: range) -> None:
        self.during = during
        self.runs = 0

    def __call__(self, conditions: Conditions) -> "BusyWorker":
        return BusyWorker(self, FakeWorkers()(conditions))


class BusyWorker:
    def __init__(self, busy: Busy, worker: Worker) -> None:
        self.busy = busy
        self.worker = worker

    def run(self, job: Job, watch: Watch) -> Run:
        self.busy.runs += 1
        factor = 50 if self.busy.runs in self.busy.during else 1

        def on_step(event: StepEvent) -> None:
            watch.on_step(replace(event, seconds=event.seconds * factor))

        run = self.worker.run(job, Following(step=on_step, stop=watch.cancelled))
        steps = tuple(step * factor for step in run.timings.steps)
        return replace(run, timings=replace(run.timings, steps=steps))

    def close(self) -> None:
        self.worker.close()


def test_a_busy_machine_gives_nothing_up(store: Store) -> None:
    quiet = len(PLANNED)
    machine = Busy(range(4, 30))
    audit_id = run_audit(store, PLAN, PLATFORM, MODEL, machine)
    assert {run.outcome for run in store.runs(audit_id).values()} == {"ok"}
    assert store.audit(audit_id).finished_at
    assert machine.runs > quiet, "no run was stopped and made again"


def test_one_slow_process_gives_nothing_up(store: Store) -> None:
    """Busy only until its second try, and the baseline is quick again by then."""
    for start in range(2, 12):
        machine = Busy(range(start, start + 1))
        audit_id = run_audit(store, PLAN, PLATFORM, MODEL, machine)
        assert {run.outcome for run in store.runs(audit_id).values()} == {"ok"}


def test_a_step_that_comes_after_the_decision_does_not_undo_it() -> None:
    pace = Pace(stop=lambda: False, limit=1.0)
    for seconds in (3.0, 2.0):
        pace.on_step(StepEvent(step=1, num_inference_steps=9, sigma=1.0, seconds=seconds))
    assert pace.cancelled()
    pace.on_step(StepEvent(step=3, num_inference_steps=9, sigma=1.0, seconds=0.1))
    assert pace.tired
    assert pace.cancelled()


def test_slow_kernels_and_few_threads_do_not_make_a_row_slow() -> None:
    axes = dict.fromkeys(("threads", "instruction-set"), (CANDIDATE.key,))
    plan = replace(PLAN, axes=axes)
    planned = expand(plan, replace(PLATFORM, instruction_set="AVX2"))
    patience = Patience(plan, baseline_step=1.0)
    limits = {
        entry.role: patience.pace(entry, lambda: False).limit
        for entry in planned
        if entry.configuration == CANDIDATE
    }
    assert limits == {
        "determinism": plan.patience,
        "timing": plan.patience,
        "threads": math.inf,
        "instruction-set": math.inf,
    }


def test_an_endlessly_patient_plan_gives_nothing_up(store: Store) -> None:
    workers = FakeWorkers(behaviours={"attention=none": Behaviour(slowdown=50)})
    made = everything(workers, replace(PLAN, patience=0))
    assert all(run.outcome == "ok" for _, run in made)


def test_the_plan_and_the_platform_of_an_audit_stay(store: Store) -> None:
    audit_id = audit(store, FakeWorkers(), stop=Stop(5))
    with pytest.raises(AuditMismatch, match="planned otherwise"):
        run_audit(store, replace(PLAN, calls=3), PLATFORM, MODEL, FakeWorkers(), audit_id)
    with pytest.raises(AuditMismatch, match="begun on another platform"):
        run_audit(store, PLAN, replace(PLATFORM, cores=4), MODEL, FakeWorkers(), audit_id)
    moved = replace(MODEL, path=Path("elsewhere"))
    plan = replace(PLAN, requests=tuple(replace(r, model=moved) for r in PLAN.requests))
    run_audit(store, plan, PLATFORM, moved, FakeWorkers(), audit_id)
    assert store.audit(audit_id).finished_at


def test_nobody_else_runs_the_same_audit(store: Store) -> None:
    audit_id = audit(store, FakeWorkers(), stop=Stop(5))
    with (
        lease(f"audit-{audit_id}", store.path.parent / "locks"),
        pytest.raises(AuditMismatch, match="is being run by another process"),
    ):
        audit(store, FakeWorkers(), audit_id)


def test_workers_are_closed_where_the_caller_fails(store: Store) -> None:
    workers = FakeWorkers()

    def fail(progress: Progress) -> None:
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        audit(store, workers, on_progress=fail)
    assert workers.opened
    assert not workers.alive
