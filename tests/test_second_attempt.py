"""A worker that dies costs its job a second attempt and nothing else; two that die end it."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.optimizations import configure
from core.picture_file import read
from core.platforms import detect
from core.receipt import load
from core.request import Following, Job, StepEvent
from core.second_attempt import SecondAttempt
from core.worker import WorkerEngine
from tests.test_worker import make_job, open_worker


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerEngine]:
    made = open_worker(tmp_path, replace_dead=True)
    yield made
    made.close()


@pytest.fixture
def job(tiny_model_path: Path) -> Job:
    return make_job(tiny_model_path, configure({}, detect("cpu")), num_inference_steps=3)


def killing(worker: WorkerEngine, times: int) -> Following:
    """Kills the worker at its first step, so many times."""
    killed: list[int] = []

    def step(event: StepEvent) -> None:
        assert worker.pid is not None
        if len(killed) < times and worker.pid not in killed:
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    return Following(step=step)


def test_a_second_process_makes_the_picture_and_receipts_say_so(
    worker: WorkerEngine, job: Job
) -> None:
    engine = SecondAttempt(worker)
    long = replace(job, requests=(replace(job.requests[0], num_inference_steps=200),))
    run = engine.run(long, killing(worker, 1))
    assert run.outcome == "ok", run.reason
    assert run.attempt == 2
    note = (
        "Second attempt: in the first, the worker process ended by signal SIGKILL during the run."
    )
    assert run.effective.notes == (note,)
    picture = run.pictures[0]
    assert picture.path is not None
    assert load(read(picture.path).texts.receipt).effective.notes == (note,)
    again = engine.run(long, Following())
    assert (again.attempt, again.effective.notes) == (1, ())
    assert again.pictures[0].pixels_sha256 == picture.pixels_sha256


def test_a_job_that_kills_two_is_given_up_and_the_next_one_works(
    worker: WorkerEngine, job: Job
) -> None:
    engine = SecondAttempt(worker)
    long = replace(job, requests=(replace(job.requests[0], num_inference_steps=500),))
    run = engine.run(long, killing(worker, 5))
    assert (run.outcome, run.attempt) == ("failed", 2)
    assert run.reason == (
        "The worker process ended by signal SIGKILL during the run. It was the second process "
        "that ended so: try a smaller size or other settings."
    )
    assert engine.run(job, Following()).outcome == "ok"


def test_a_failure_without_a_death_is_not_tried_again(worker: WorkerEngine, job: Job) -> None:
    gone = replace(job.requests[0].model, path=Path("nowhere"))
    bad = replace(job, requests=(replace(job.requests[0], model=gone),))
    process = worker.pid
    run = SecondAttempt(worker).run(bad, Following())
    assert (run.outcome, run.attempt) == ("failed", 1)
    assert worker.pid == process


def test_who_cancelled_gets_no_second_attempt(worker: WorkerEngine, job: Job) -> None:
    cancelled: list[bool] = []
    long = replace(job, requests=(replace(job.requests[0], num_inference_steps=500),))

    def step(event: StepEvent) -> None:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        cancelled.append(True)

    run = SecondAttempt(worker).run(long, Following(step=step, stop=lambda: bool(cancelled)))
    assert run.attempt == 1
    assert not worker.alive
