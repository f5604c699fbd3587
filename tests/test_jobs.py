"""The queue: order, fairness, cancel, and engines that break."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from core.optimization import Configuration
from core.request import Job, Request, StepEvent, Watch
from core.run import Environment, Run
from tests.fake_engine import MODEL, FakeEngine
from webapp.jobs import JobQueue, QueueFull
from webapp.ticket import Ticket

PATIENCE = 20.0


def job(name: str, steps: int = 4) -> Job:
    request = Request(prompt=name, model=MODEL, num_inference_steps=steps, width=64, height=64)
    return Job(id=name, requests=(request,), configuration=Configuration())


class GatedEngine:
    """Takes a step whenever the test opens the gate; writes down what it was asked."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.asked: list[str] = []
        self.inside = 0
        self.most_inside = 0

    def run(self, job: Job, watch: Watch) -> Run:
        self.asked.append(job.id)
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            return self._run(job, watch)
        finally:
            self.inside -= 1

    def _run(self, job: Job, watch: Watch) -> Run:
        environment: Environment = FakeEngine()._environment()
        steps = job.requests[0].num_inference_steps
        for step in range(1, steps + 1):
            while not self.gate.acquire(timeout=0.01):
                if watch.cancelled():
                    return Run(
                        job=job, outcome="cancelled", environment=environment, reason="Cancelled."
                    )
            watch.on_step(StepEvent(step=step, num_inference_steps=steps, sigma=1.0, seconds=0.5))
        return Run(job=job, outcome="ok", environment=environment)

    def release(self, steps: int = 1000) -> None:
        for _ in range(steps):
            self.gate.release()


class BrokenEngine:
    """Breaks its promise never to raise, once."""

    def __init__(self) -> None:
        self.broken = False

    def run(self, job: Job, watch: Watch) -> Run:
        if not self.broken:
            self.broken = True
            raise RuntimeError("the pipe burst\nand a second line")
        return FakeEngine().run(job, watch)


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


@pytest.fixture
def queue(engine: GatedEngine) -> Iterator[JobQueue]:
    queue = JobQueue(engine, waiting_per_owner=3, remembered=4)
    yield queue
    queue.close()
    assert engine.most_inside <= 1


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def ticket(queue: JobQueue, name: str) -> Ticket:
    found = queue.look(name)
    assert found is not None
    return found


def state(queue: JobQueue, name: str) -> str:
    return ticket(queue, name).state


def test_a_job_goes_from_waiting_over_steps_to_its_run(
    engine: GatedEngine, queue: JobQueue
) -> None:
    assert queue.submit(job("a"), "ann").state in ("waiting", "running")
    until(lambda: state(queue, "a") == "running")
    assert ticket(queue, "a").remaining is None
    engine.release(1)
    until(lambda: ticket(queue, "a").step is not None)
    step = ticket(queue, "a").step
    assert step is not None
    assert (step.step, ticket(queue, "a").remaining) == (1, 1.5)
    engine.release()
    until(lambda: ticket(queue, "a").closed)
    assert state(queue, "a") == "ok"
    run = ticket(queue, "a").run
    assert run is not None
    assert run.job.id == "a"
    assert not queue.busy


def test_jobs_of_one_person_run_in_their_order(engine: GatedEngine, queue: JobQueue) -> None:
    for name in "abc":
        queue.submit(job(name), "ann")
    engine.release()
    assert queue.wait_until_idle(PATIENCE)
    assert engine.asked == ["a", "b", "c"]


def test_who_was_served_longest_ago_is_next(engine: GatedEngine, queue: JobQueue) -> None:
    queue.submit(job("a1"), "ann")
    until(lambda: state(queue, "a1") == "running")
    for name in ("a2", "a3"):
        queue.submit(job(name), "ann")
    queue.submit(job("b1"), "bob")
    queue.submit(job("c1"), "cleo")
    places = {name: ticket(queue, name).ahead for name in ("a2", "a3", "b1", "c1")}
    assert places == {"b1": 1, "c1": 2, "a2": 3, "a3": 4}
    engine.release()
    assert queue.wait_until_idle(PATIENCE)
    assert engine.asked == ["a1", "b1", "c1", "a2", "a3"]


def test_a_waiting_job_says_when_it_begins_once_a_step_was_measured(
    engine: GatedEngine, queue: JobQueue
) -> None:
    queue.submit(job("a", steps=4), "ann")
    queue.submit(job("b", steps=8), "ann")
    queue.submit(job("c"), "ann")
    until(lambda: state(queue, "a") == "running")
    assert ticket(queue, "c").wait is None
    engine.release(1)
    until(lambda: ticket(queue, "a").step is not None)
    assert ticket(queue, "b").wait == pytest.approx(3 * 0.5)
    assert ticket(queue, "c").wait == pytest.approx((3 + 8) * 0.5)


def test_a_cancelled_waiting_job_never_starts(engine: GatedEngine, queue: JobQueue) -> None:
    queue.submit(job("a"), "ann")
    queue.submit(job("b"), "ann")
    queue.cancel("b", "ann")
    assert state(queue, "b") == "cancelled"
    assert ticket(queue, "b").reason
    engine.release()
    assert queue.wait_until_idle(PATIENCE)
    assert engine.asked == ["a"]


def test_cancel_frees_the_engine_for_the_next_job(engine: GatedEngine, queue: JobQueue) -> None:
    queue.submit(job("long", steps=1000), "ann")
    queue.submit(job("next"), "bob")
    engine.release(3)
    until(lambda: (step := ticket(queue, "long").step) is not None and step.step == 3)
    queue.cancel("long", "bob")
    assert not ticket(queue, "long").closed
    queue.cancel("long", "ann")
    until(lambda: state(queue, "next") == "running")
    assert state(queue, "long") == "cancelled"
    assert ticket(queue, "long").reason == "Cancelled."
    engine.release()
    until(lambda: state(queue, "next") == "ok")


def test_ones_own_jobs_change_places_and_nobody_elses(engine: GatedEngine, queue: JobQueue) -> None:
    queue.submit(job("a1"), "ann")
    until(lambda: state(queue, "a1") == "running")
    for name, owner in (("a2", "ann"), ("b1", "bob"), ("a3", "ann"), ("b2", "bob"), ("a4", "ann")):
        queue.submit(job(name), owner)

    def order() -> list[str]:
        return [one.job.id for one in queue.open_tickets()]

    assert order() == ["a1", "b1", "a2", "b2", "a3", "a4"]
    assert queue.move("a4", "ann", 0)
    assert order() == ["a1", "b1", "a4", "b2", "a2", "a3"]
    assert queue.move("a4", "ann", 1)
    assert order() == ["a1", "b1", "a2", "b2", "a4", "a3"]
    assert queue.move("a2", "ann", 99)
    assert order() == ["a1", "b1", "a4", "b2", "a3", "a2"]
    assert queue.move("a3", "ann", -5)
    after = order()
    assert after == ["a1", "b1", "a3", "b2", "a4", "a2"]
    for job_id, owner in (("b1", "ann"), ("a1", "ann"), ("nobody's", "ann")):
        assert not queue.move(job_id, owner, 0)
    assert order() == after
    engine.release()
    assert queue.wait_until_idle(PATIENCE)
    assert engine.asked == after


def test_an_admin_cancels_anybodys(engine: GatedEngine, queue: JobQueue) -> None:
    queue.submit(job("a", steps=1000), "ann")
    queue.submit(job("b"), "bob")
    until(lambda: state(queue, "a") == "running")
    queue.cancel("b", "cleo")
    assert state(queue, "b") == "waiting"
    queue.cancel("b", "cleo", anybodys=True)
    assert state(queue, "b") == "cancelled"
    queue.cancel("a", "cleo", anybodys=True)
    until(lambda: state(queue, "a") == "cancelled")


def test_what_is_not_admitted_never_waits() -> None:
    def admit(job: Job, owner: str, kept: bool) -> None:
        if owner == "ann" and kept:
            raise ValueError("not you")

    queue = JobQueue(FakeEngine(), admit=admit)
    with pytest.raises(ValueError, match="not you"):
        queue.submit(job("a"), "ann")
    assert queue.look("a") is None
    queue.submit(job("b"), "ann", kept=False)
    queue.submit(job("c"), "bob")
    assert queue.wait_until_idle(PATIENCE)
    queue.close()


def test_cancel_of_what_is_done_or_unknown_changes_nothing(
    engine: GatedEngine, queue: JobQueue
) -> None:
    queue.submit(job("a"), "ann")
    engine.release()
    until(lambda: ticket(queue, "a").closed)
    queue.cancel("a", "ann")
    queue.cancel("nobody's", "ann")
    assert state(queue, "a") == "ok"
    assert queue.look("nobody's") is None


def test_an_engine_that_raises_fails_one_job_only() -> None:
    queue = JobQueue(BrokenEngine())
    queue.submit(job("a"), "ann")
    queue.submit(job("b"), "ann")
    assert queue.wait_until_idle(PATIENCE)
    assert (state(queue, "a"), state(queue, "b")) == ("failed", "ok")
    assert ticket(queue, "a").reason == "The engine broke: the pipe burst"
    queue.close()


def test_every_run_is_told_before_its_ticket_closes() -> None:
    told: list[tuple[str, str, str]] = []
    queue = JobQueue(
        FakeEngine(),
        lambda run, owner: told.append((run.job.id, owner, state(queue, run.job.id))),
    )
    queue.submit(job("a"), "ann")
    assert queue.wait_until_idle(PATIENCE)
    assert told == [("a", "ann", "running")]
    queue.close()


def test_a_picture_that_cannot_be_kept_says_so() -> None:
    def full(run: Run, owner: str) -> None:
        raise OSError("no space left on device")

    queue = JobQueue(FakeEngine(), full)
    queue.submit(job("a"), "ann")
    assert queue.wait_until_idle(PATIENCE)
    assert state(queue, "a") == "failed"
    assert "no space left" in ticket(queue, "a").reason
    queue.close()


def test_one_person_cannot_fill_the_queue(queue: JobQueue) -> None:
    queue.submit(job("running"), "ann")
    until(lambda: state(queue, "running") == "running")
    for name in "abc":
        queue.submit(job(name), "ann")
    with pytest.raises(QueueFull, match="3 pictures waiting"):
        queue.submit(job("d"), "ann")
    assert queue.submit(job("e"), "bob").state == "waiting"


def test_old_tickets_are_forgotten_and_open_ones_are_not(
    engine: GatedEngine, queue: JobQueue
) -> None:
    engine.release()
    for number in range(8):
        queue.submit(job(f"job {number}"), "ann")
        assert queue.wait_until_idle(PATIENCE)
    assert queue.look("job 0") is None
    assert queue.look("job 7") is not None


def test_close_stops_what_runs_and_starts_nothing(engine: GatedEngine, queue: JobQueue) -> None:
    queue.submit(job("a", steps=1000), "ann")
    queue.submit(job("b"), "ann")
    until(lambda: state(queue, "a") == "running")
    queue.close()
    assert engine.asked == ["a"]
    with pytest.raises(QueueFull, match="stopping"):
        queue.submit(job("c"), "ann")


def test_what_ended_last_is_remembered_however_long_it_waited(
    engine: GatedEngine, queue: JobQueue
) -> None:
    queue.submit(job("runs"), "ann")
    until(lambda: engine.asked == ["runs"])
    queue.submit(job("long"), "ann")
    for number in range(6):
        queue.submit(job(f"gone {number}"), "ben")
        queue.cancel(f"gone {number}", "ben")
    engine.release()
    until(lambda: not queue.busy)
    queue.submit(job("new"), "ben")
    until(lambda: not queue.busy)
    assert queue.look("long") is not None
    assert queue.look("gone 0") is None
