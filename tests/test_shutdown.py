"""A server that is asked to stop finishes what it began; asked twice, it does not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.browser_fixtures import free_port, wait_for
from tests.test_jobs import PATIENCE, until
from tests.test_rest import ANN, APPLE, BOB, Server, errors
from webapp.health import router
from webapp.jobs import STOPPED
from webapp.places import REPOSITORY
from webapp.server import serve
from webapp.shutdown import Shutdown, drain


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.audits.close()
    made.jobs.close()
    made.store.close()


@pytest.fixture
def handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


class Log:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def __call__(self, event: str, **fields: object) -> None:
        self.lines.append({"event": event, **fields})


def test_jobs_that_end_in_time_end_as_ever(server: Server) -> None:
    ann, bob, log = server.client(), server.client(BOB), Log()
    made = [who.post("jobs", json=APPLE).json()["id"] for who in (ann, bob)]
    server.engine.gated.release()
    drain(server.services, PATIENCE, log)
    assert [ann.get(f"jobs/{made[0]}").json()["state"]] == ["ok"]
    assert [bob.get(f"jobs/{made[1]}").json()["state"]] == ["ok"]
    assert [line["event"] for line in log.lines] == ["draining", "drained"]
    assert log.lines[-1] == {"event": "drained", "finished": True, "waiting": 0, "running": 0}


def test_what_does_not_end_in_time_fails_with_the_reason(server: Server) -> None:
    ann, log = server.client(), Log()
    running, waiting = (ann.post("jobs", json=APPLE).json()["id"] for _ in range(2))
    until(lambda: server.jobs.census() == {"waiting": 1, "running": 1})
    drain(server.services, 0.1, log)
    begun, never = (ann.get(f"jobs/{one}").json() for one in (running, waiting))
    assert (begun["state"], begun["reason"]) == ("cancelled", STOPPED)
    assert (never["state"], never["reason"]) == ("failed", STOPPED)
    assert log.lines[-1] == {"event": "drained", "finished": False, "waiting": 1, "running": 1}
    assert server.engine.gated.asked == [running]


def test_nothing_new_is_taken_and_balancers_are_told(server: Server) -> None:
    ann = server.client()
    job = ann.post("jobs", json=APPLE).json()["id"]
    health = FastAPI()
    health.include_router(router(server.services))
    balancer = TestClient(health)
    assert balancer.get("/readyz").status_code == 200
    assert not server.jobs.drain(0.01)
    ready = balancer.get("/readyz")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["The server is stopping."])
    assert balancer.get("/healthz").status_code == 200
    refused = ann.post("jobs", json=APPLE)
    assert refused.status_code == 503
    assert errors(refused) == ["The server is stopping: try again in a moment."]
    server.engine.gated.release()
    assert server.jobs.drain(PATIENCE)
    assert ann.get(f"jobs/{job}").json()["state"] == "ok"


def test_a_log_that_nobody_reads_does_not_end_the_draining(server: Server) -> None:
    def gone(event: str, **fields: object) -> None:
        raise BrokenPipeError

    server.client().post("jobs", json=APPLE)
    server.engine.gated.release()
    drain(server.services, PATIENCE, gone)
    assert not server.jobs.busy


def test_the_first_signal_is_heard_and_the_second_interrupts(handlers: None) -> None:
    shutdown = Shutdown()
    signal.raise_signal(signal.SIGTERM)
    shutdown.wait()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("path", ["seedproof", "/", "/seedproof/", "/a b", "https://a.org/b"])
def test_a_path_that_no_proxy_has_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="--root-path is as /seedproof"):
        serve(None, "pocket", host="127.0.0.1", port=1, root_path=path)  # type: ignore[arg-type]


# A process


class Process:
    """`seedproof serve` with the shipped model, and its journal."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port, self._log = free_port(), folder / "log"
        command = [sys.executable, "-m", "webapp", "serve", "--journal", "--port", str(self.port)]
        with self._log.open("w") as output:
            self.process = subprocess.Popen(
                [*command, "--db", str(folder / "seedproof.db"), *options],
                cwd=REPOSITORY,
                env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        url = f"http://127.0.0.1:{self.port}/"
        wait_for(url, self.process, self._log)
        self.http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {ANN}"}, timeout=PATIENCE
        )

    def ask(self, steps: int) -> str:
        asked = {"prompt": "a red apple", "num_inference_steps": steps}
        answer = self.http.post("api/v1/jobs", json=asked)
        assert answer.status_code == 202, answer.text
        job: str = answer.json()["id"]
        return job

    def look(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"api/v1/jobs/{job}").json()
        return found

    @property
    def text(self) -> str:
        return self._log.read_text()

    def journal(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]

    def end(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait()


@pytest.mark.slow
def test_a_real_process_finishes_its_pictures_and_exits_0(tmp_path: Path) -> None:
    server = Process(tmp_path)
    try:
        jobs = [server.ask(steps=60), server.ask(steps=2)]
        until(lambda: server.look(jobs[0])["step"] > 0)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.http.get("readyz").status_code == 503)
        refused = server.http.post("api/v1/jobs", json={"prompt": "late"})
        assert refused.status_code == 503
        until(lambda: server.look(jobs[1])["state"] == "ok")
        link = server.look(jobs[0])["images"][0]["url"]
        assert server.http.get(link).content.startswith(b"\x89PNG")
        assert server.process.wait(PATIENCE) == 0
    finally:
        server.end()
    assert "Traceback" not in server.text
    told = server.journal()
    assert [line["event"] for line in told] == ["draining", "job", "job", "drained"]
    assert [(line["job"], line["outcome"]) for line in told[1:3]] == [(job, "ok") for job in jobs]
    assert told[-1]["finished"] is True


@pytest.mark.soak
def test_a_real_process_that_is_told_twice_ends_at_once(tmp_path: Path) -> None:
    server = Process(tmp_path, "--drain-seconds", "600")
    try:
        jobs = [server.ask(steps=500), server.ask(steps=500)]
        until(lambda: server.look(jobs[0])["step"] > 0)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.http.get("readyz").status_code == 503)
        told = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 130
        assert time.monotonic() - told < 15
    finally:
        server.end()
    assert "Traceback" not in server.text
    outcomes = {line["job"]: line["outcome"] for line in server.journal() if "job" in line}
    assert outcomes == {jobs[0]: "cancelled", jobs[1]: "failed"}


@pytest.mark.soak
def test_ctrl_c_ends_as_ever(tmp_path: Path) -> None:
    server = Process(tmp_path)
    try:
        job = server.ask(steps=500)
        until(lambda: server.look(job)["step"] > 0)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE) == 0
    finally:
        server.end()
    assert "Traceback" not in server.text
