"""ZeroGPU, as far as it can be had without one: calls that fork and pickle, durations, times."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.plan import PlannedRun
from audit.timing import scored
from core.optimizations import configure
from core.request import Job, Request
from tests.fake_engine import MODEL, PLATFORM, FakeEngine
from webapp.places import REPOSITORY
from webapp.run_card import facts
from webapp.zero_gpu import LONGEST, NO_AUDITS, TIMING_CAVEAT, ZeroGpu

FAKE = REPOSITORY / "tests" / "fake_spaces"


@pytest.fixture(scope="module")
def told(tiny_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("zero-gpu")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.zero_gpu_child", str(tiny_model_path), str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(FAKE)))},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return {**document, "folder": str(folder)}


def test_jobs_run_in_a_forked_process_that_may_serve_several(told: dict[str, Any]) -> None:
    runs = told["runs"]
    assert [run["outcome"] for run in runs] == ["ok"] * 3
    assert {run["kind"] for run in runs} == {"forked"}
    assert len({run["process"] for run in runs}) == 1
    assert [run["before"] for run in runs] == [0, 1, 2]
    assert runs[0]["digests"] == runs[1]["digests"] != runs[2]["digests"]
    assert told["steps"] == [1, 2, 1, 2, 1, 2, 3]
    assert told["threads"] == 1


def test_pictures_go_to_the_folder_of_their_engine(told: dict[str, Any]) -> None:
    for run, folder in ((told["runs"][0], "pictures"), (told["elsewhere"], "others")):
        (path,) = map(Path, run["paths"])
        assert path.parent == Path(told["folder"]) / folder
        assert path.is_file()


def test_the_platform_and_every_answer_come_from_inside_a_call(told: dict[str, Any]) -> None:
    assert told["here"] == told["there"]
    assert told["same"]
    assert told["compile"] == "ZeroGPU does not support torch.compile"


def test_a_cancel_ends_the_call_at_the_next_step_and_frees_the_gpu(told: dict[str, Any]) -> None:
    assert told["cancelled"]["outcome"] == "cancelled"
    assert told["steps_until_cancelled"] == 2
    assert told["after"]["outcome"] == "ok"
    assert told["after"]["process"] == told["cancelled"]["process"]


def test_what_zero_gpu_refuses_or_ends_is_one_sentence_and_the_next_job_runs(
    told: dict[str, Any],
) -> None:
    assert told["refused"]["reason"] == (
        "ZeroGPU did not finish this job, which asked for 16 s: "
        "You have exceeded your ZeroGPU quota."
    )
    assert told["killed"]["outcome"] == "failed"
    assert told["killed"]["reason"].endswith("GPU task aborted")
    assert told["replaced"]["outcome"] == "ok"
    assert told["replaced"]["process"] != told["runs"][0]["process"]


def test_a_job_is_counted_against_the_quota_of_who_asked(told: dict[str, Any]) -> None:
    """Also from the queue's own thread; nobody's quota pays for another's job."""
    assert [call["token"] for call in told["calls"]] == [None] * (len(told["calls"]) - 1) + [
        "ann's"
    ]
    assert told["queued"] == "ok"


def test_every_run_says_that_its_times_cannot_be_compared(told: dict[str, Any]) -> None:
    assert {run["caveat"] for run in told["runs"]} == {TIMING_CAVEAT}


# Durations


def undecorated(**options: Any) -> Callable[[Any], Any]:
    return lambda task: task


def job(steps: int, side: int = 512, pictures: int = 1) -> Job:
    asked = Request(prompt="a", model=MODEL, num_inference_steps=steps, width=side, height=side)
    return Job(id="a", requests=(asked,) * pictures, configuration=configure({}, PLATFORM))


def test_more_work_asks_for_more_seconds_up_to_a_limit(tmp_path: Path) -> None:
    gpu = ZeroGpu(undecorated)
    asked = [
        gpu.seconds(one, tmp_path)
        for one in (job(20), job(40), job(40, pictures=2), job(100, 4096))
    ]
    assert asked == sorted(set(asked))
    assert asked[-1] == LONGEST


def test_what_jobs_took_replaces_the_guess(tmp_path: Path) -> None:
    gpu = ZeroGpu(undecorated)
    guessed = gpu.seconds(job(20), tmp_path)
    run = FakeEngine().run(job(20), _Quiet())
    quick = replace(run, timings=replace(run.timings, denoise=0.5, decode=0.1))
    gpu.took(quick)
    assert gpu.seconds(job(20), tmp_path) < guessed
    slow = replace(run, timings=replace(run.timings, denoise=30.0, decode=1.0))
    gpu.took(slow)
    gpu.took(quick)
    assert gpu.seconds(job(20), tmp_path) > 30 * 1.5


class _Quiet:
    def on_step(self, event: object) -> None:
        pass

    def cancelled(self) -> bool:
        return False


def test_there_are_no_audits_on_zero_gpu() -> None:
    with pytest.raises(ValueError, match="No audit is offered on ZeroGPU") as refused:
        ZeroGpu(undecorated).audit_worker()
    assert str(refused.value) == NO_AUDITS


def test_no_gpu_at_the_start_is_one_sentence() -> None:
    def refusing(**options: Any) -> Callable[[Any], Any]:
        def refused() -> None:
            raise RuntimeError("No GPU was available\nafter 60s")

        return lambda task: refused

    with pytest.raises(ValueError, match="No GPU was available after 60s") as error:
        ZeroGpu(refusing).platform()
    assert "\n" not in str(error.value)


# Times


def test_an_audit_counts_no_time_with_a_caveat_and_the_picture_says_why() -> None:
    run = FakeEngine().run(job(2), _Quiet())
    planned = PlannedRun(
        identity="a",
        role="timing",
        process="timing 0.0",
        group="timing 0.0",
        repeat=0,
        cluster=0,
        configuration=run.job.configuration,
        placebo=False,
        job=run.job,
        block=1,
    )
    assert scored([planned], {"a": run}) == [planned]
    environment = replace(run.environment, timing_caveat=TIMING_CAVEAT)
    marked = replace(run, environment=environment)
    assert scored([planned], {"a": marked}) == []
    assert "not comparable with a GPU" in facts(marked, ())
    assert "not comparable" not in facts(run, ())
