"""An engine in another process: same bits, cancel, death of either side."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from audit.applicability import not_applicable
from core.diffusion import DiffusersEngine
from core.instruction_sets import smaller
from core.models import resolve
from core.optimization import Configuration
from core.optimizations import configure
from core.platforms import Platform, detect
from core.request import Conditions, Following, Job, Request, StepEvent
from core.run import Run
from core.worker import WorkerEngine
from core.worker import open_worker as open_limited
from tests.test_resume import alive_after


@pytest.fixture(scope="module")
def platform() -> Platform:
    return detect("cpu")


@pytest.fixture
def job(tiny_model_path: Path, platform: Platform) -> Job:
    return make_job(tiny_model_path, configure({}, platform), num_inference_steps=3)


def make_job(model: Path, configuration: Configuration, num_inference_steps: int) -> Job:
    request = Request(
        prompt="a cat",
        model=resolve(str(model), Path("unused")),
        seed=5,
        width=64,
        height=64,
        num_inference_steps=num_inference_steps,
        guidance_scale=5.0,
    )
    return Job(id="job", requests=(request,), configuration=configuration)


def open_worker(folder: Path, **options: object) -> WorkerEngine:
    return WorkerEngine(
        pictures=folder / "pictures",
        lease_folder=folder / "leases",
        device="cpu",
        **options,  # type: ignore[arg-type]
    )


def test_forked_and_execd_workers_give_this_process_bits(
    tmp_path: Path, platform: Platform, job: Job
) -> None:
    here = DiffusersEngine(platform, tmp_path / "here").run(job, Following())
    assert here.outcome == "ok", here.reason
    seen = set()
    for process in ("forked", "exec"):
        worker = open_worker(tmp_path, process=process)
        try:
            first, second = worker.run(job, Following()), worker.run(job, Following())
        finally:
            worker.close()
        assert not worker.alive
        assert first.outcome == "ok", first.reason
        assert first.environment.process == process
        assert first.environment.process_id == second.environment.process_id
        assert (first.environment.calls_before, second.environment.calls_before) == (0, 1)
        assert first.environment.fingerprint == platform.fingerprint
        assert first.pictures[0].latents_sha256 == here.pictures[0].latents_sha256
        assert first.pictures[0].pixels_sha256 == here.pictures[0].pixels_sha256
        seen.add(first.environment.process_id)
    assert len(seen) == 2


def test_kernels_are_limited_in_the_worker_and_nowhere_else(
    tmp_path: Path, platform: Platform, job: Job
) -> None:
    names = smaller(platform.instruction_set)
    if not names:
        assert not_applicable(platform)["instruction-set"]
        return
    before = dict(os.environ)
    digests = set()
    for kernels in (None, names[-1]):
        conditions = Conditions(process="exec", instruction_set=kernels)
        worker = open_limited(conditions, platform, pictures=tmp_path, lease_folder=tmp_path)
        try:
            run = worker.run(replace(job, conditions=conditions), Following())
        finally:
            worker.close()
        assert run.outcome == "ok", run.reason
        assert run.environment.instruction_set == (kernels or platform.instruction_set)
        assert run.environment.fingerprint == platform.fingerprint, "it is the same platform"
        digests.add(run.pictures[0].latents_sha256)
    assert len(digests) == 2, "other kernels that give equal bits have not acted"
    assert dict(os.environ) == before


def test_a_worker_that_is_not_limited_as_asked_says_so(
    tmp_path: Path, platform: Platform, job: Job
) -> None:
    asked = replace(job, conditions=Conditions(process="exec", instruction_set="AVX2"))
    worker = open_worker(tmp_path, process="exec", instruction_set="AVX1024")
    try:
        run = worker.run(asked, Following())
    finally:
        worker.close()
    assert run.outcome == "failed"
    assert "There is no instruction set 'AVX1024'" in run.reason
    here = DiffusersEngine(platform, tmp_path).run(
        replace(job, conditions=Conditions(instruction_set="NEON")), Following()
    )
    assert "asks for NEON kernels" in here.reason
    with pytest.raises(ValueError, match="Only an exec'd process"):
        open_worker(tmp_path, process="forked", instruction_set="AVX2")


def test_threads_are_set_before_the_first_job(
    tmp_path: Path, tiny_model_path: Path, platform: Platform
) -> None:
    job = make_job(tiny_model_path, configure({}, platform), 1)
    pinned = Job(
        id="pinned",
        requests=job.requests,
        configuration=job.configuration,
        conditions=Conditions(threads=1),
    )
    worker = open_worker(tmp_path, threads=1)
    try:
        run = worker.run(pinned, Following())
    finally:
        worker.close()
    assert run.outcome == "ok", run.reason
    assert run.environment.threads == 1
    assert run.environment.fingerprint == platform.fingerprint
    assert torch.get_num_threads() == platform.threads


def test_cancel_frees_the_worker_within_a_step(
    tmp_path: Path, tiny_model_path: Path, platform: Platform, job: Job
) -> None:
    long = make_job(tiny_model_path, configure({}, platform), 500)
    worker = open_worker(tmp_path)
    stop = threading.Event()
    events: list[StepEvent] = []

    def on_step(event: StepEvent) -> None:
        events.append(event)
        stop.set()

    try:
        cancelled = worker.run(long, Following(step=on_step, stop=stop.is_set))
        after = worker.run(job, Following())
    finally:
        worker.close()
    assert cancelled.outcome == "cancelled"
    assert len(cancelled.timings.steps) < 250
    assert after.outcome == "ok", after.reason
    assert len(after.timings.steps) == 3


def test_a_killed_worker_is_a_failed_run_and_can_be_replaced(
    tmp_path: Path, tiny_model_path: Path, platform: Platform, job: Job
) -> None:
    long = make_job(tiny_model_path, configure({}, platform), 500)
    worker = open_worker(tmp_path, replace_dead=True)

    def kill(event: StepEvent) -> None:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)

    try:
        killed = worker.run(long, Following(step=kill))
        after = worker.run(job, Following())
    finally:
        worker.close()
    assert killed.outcome == "failed"
    assert "signal SIGKILL" in killed.reason
    assert after.outcome == "ok", after.reason
    assert after.environment.process_id != killed.environment.process_id


PARENT = """
import sys
from pathlib import Path
from core.request import Following
from core.worker import WorkerEngine
from tests.test_worker import make_job
from core.optimizations import configure
from core.platforms import detect

if __name__ == "__main__":
    folder, model, process = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    worker = WorkerEngine(
        pictures=folder / "pictures", lease_folder=folder, device="cpu", process=process
    )
    job = make_job(model, configure({}, detect("cpu")), 500)
    worker.run(job, Following(step=lambda event: print(worker.pid, flush=True)))
"""


def test_where_nothing_can_fork_a_worker_is_execd_and_says_so(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    worker = open_worker(tmp_path, process="forked")
    try:
        made = worker.run(job, Following())
    finally:
        worker.close()
    assert made.outcome == "ok", made.reason
    assert made.environment.process == "exec"


@pytest.mark.parametrize("process", ["forked", "exec"])
def test_a_worker_does_not_outlive_a_killed_parent(
    tmp_path: Path, tiny_model_path: Path, process: str
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(tiny_model_path), process],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        pid = int(parent.stdout.readline())
        family = [psutil.Process(pid), *psutil.Process(parent.pid).children(recursive=True)]
        parent.kill()
        parent.wait()
        _, alive = psutil.wait_procs(family, timeout=5)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


SLOW_SERVER = """
import multiprocessing.forkserver as server, sys
server.set_forkserver_preload([{first!r}, "slow_import"])
server.ensure_running()
print(server._forkserver._forkserver_pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("first", "left"), [("core.orphan", False), ("json", True)])
def test_a_fork_server_leaves_with_its_parent_while_it_imports(
    tmp_path: Path, first: str, left: bool
) -> None:
    """With something else in place of our module it stays: the test can fail."""
    (tmp_path / "slow_import.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", SLOW_SERVER.format(first=first)],
        env={**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}{os.pathsep}{tmp_path}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    server = psutil.Process(int(parent.stdout.readline()))
    assert parent.stdout.readline() == b"importing\n"
    parent.kill()
    remaining = alive_after([server], 5)
    for process in remaining:
        process.kill()
    # Its end of the pipe closes with the last process that has it, hence only now.
    parent.communicate()
    assert bool(remaining) is left


def process_of(run: Run) -> int:
    """The pid of the process that made it."""
    return int(run.environment.process_id.split("-")[1])


def test_a_process_that_grew_too_much_gives_its_place_to_a_new_one_between_two_jobs(
    tmp_path: Path, job: Job
) -> None:
    worker = open_worker(tmp_path, most_growth=-1)
    try:
        first, former = worker.run(job, Following()), worker.pid
        assert former is not None
        assert (worker.renewals, worker.alive) == (1, True)
        assert not psutil.pid_exists(process_of(first))
        second = worker.run(job, Following())
    finally:
        worker.close()
    assert first.outcome == second.outcome == "ok"
    assert process_of(second) == former
    assert first.pictures[0].pixels_sha256 == second.pictures[0].pixels_sha256


def test_a_process_that_grew_less_than_that_stays(tmp_path: Path, job: Job) -> None:
    worker = open_worker(tmp_path, most_growth=10**12)
    try:
        former = worker.pid
        worker.run(job, Following())
        assert (worker.run(job, Following()).outcome, worker.pid, worker.renewals) == (
            "ok",
            former,
            0,
        )
    finally:
        worker.close()


def test_weights_are_no_growth(tiny_model_path: Path, tmp_path: Path, job: Job) -> None:
    engine = DiffusersEngine(detect("cpu"), tmp_path)
    assert engine.pool.weight_bytes() == 0
    engine.run(job, Following())
    pipeline = engine.pool.get(job.requests[0].model, job.configuration)
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    weights = sum(p.numel() * 4 for part in parts for p in part.parameters())
    assert weights <= engine.pool.weight_bytes() < 1.1 * weights
    resident = psutil.Process().memory_info().rss
    assert abs(resident - engine.pool.weight_bytes() - engine.held_bytes()) < 50_000_000
