"""What a server says to whoever runs it: health, metrics, a journal; and nothing of anybody."""

import io
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from core.optimizations import configure
from core.request import Job, Request
from core.run import Memory, Run
from core.store import Store
from tests.fake_engine import MODEL, PLATFORM, FakeEngine, FakeWorkers
from webapp.audits import Audits
from webapp.findings import Findings
from webapp.grids import Grids
from webapp.health import router
from webapp.jobs import JobQueue
from webapp.journal import Journal
from webapp.metrics import Metrics
from webapp.policy import Policy
from webapp.services import Services
from webapp.ticket import Ticket

SECRET = "a prompt that is nobody's business"


class Server:
    """The services with a fake engine, everything counted and written down."""

    def __init__(self, folder: Path, worker: int | None) -> None:
        self.log = io.StringIO()
        self.store = Store(folder / "seedproof.db")
        journal = Journal(self.log)

        def closed(ticket: Ticket) -> None:
            self.metrics.closed(ticket)
            journal.closed(ticket)

        self.jobs = JobQueue(FakeEngine(pictures=self.store.pictures), closed=closed)
        self.metrics = Metrics(self.jobs.census, lambda: worker)
        self.audits = Audits(
            self.store, PLATFORM, FakeWorkers(pictures=self.store.pictures), self.jobs
        )
        self.services = Services(
            platform=PLATFORM,
            model=MODEL,
            store=self.store,
            jobs=self.jobs,
            grids=Grids(self.store, self.jobs),
            audits=self.audits,
            findings=Findings(self.store),
            plans=folder,
            reports=folder,
            metrics=self.metrics,
        )

    def client(self, policy: Policy | None = None) -> TestClient:
        api = FastAPI()
        api.include_router(router(replace(self.services, policy=policy or Policy())))
        return TestClient(api)

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, os.getpid())
    yield made
    made.audits.close()
    made.jobs.close()
    made.store.close()


def job(name: str, **changes: object) -> Job:
    asked = Request(prompt=SECRET, model=MODEL, num_inference_steps=2)
    return Job(
        id=name,
        requests=(replace(asked, **changes),),  # type: ignore[arg-type]
        configuration=configure({"attention": "none"}, PLATFORM),
    )


def samples(client: TestClient) -> dict[str, float]:
    text = client.get("/metrics").text
    rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


def test_a_server_that_works_is_healthy_and_ready(server: Server) -> None:
    client = server.client()
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})


def test_a_server_that_stops_or_lost_its_database_is_healthy_and_not_ready(server: Server) -> None:
    client = server.client()
    server.jobs.close()
    server.store.close()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    first, second = answer.json()["reasons"]
    assert first == "The server is stopping."
    assert second.startswith("The database does not answer")
    assert client.get("/healthz").status_code == 200


def test_metrics_count_what_ended_and_name_nobody(server: Server) -> None:
    client = server.client()
    before = samples(client)
    assert before["seedproof_worker_up"] == 1
    assert before["seedproof_worker_resident_bytes"] > 1e6
    assert before['seedproof_jobs_total{outcome="ok"}'] == 0
    for name in ("a", "b"):
        server.jobs.submit(job(name), "visitor:somebody")
    assert server.jobs.wait_until_idle(30)
    server.jobs.close()
    after = samples(client)
    assert after['seedproof_jobs_total{outcome="ok"}'] == 2
    assert after["seedproof_job_wait_seconds_count"] == 2
    label = 'attention="none",precision="fp32"'
    assert after[f"seedproof_job_run_seconds_count{{{label}}}"] == 2
    assert after['seedproof_queue_jobs{state="waiting"}'] == 0
    text = client.get("/metrics").text
    assert SECRET not in text
    assert "somebody" not in text


def test_cancelled_and_failed_jobs_are_counted_as_such(tmp_path: Path) -> None:
    class Full(FakeEngine):
        def run(self, job: Job, watch: object) -> Run:
            run = super().run(job, watch)  # type: ignore[arg-type]
            memory = Memory(peak_bytes=5 * 10**8, kind="process high-water mark")
            return replace(run, outcome="failed", reason="no memory", memory=memory)

    told = []
    queue = JobQueue(Full(), closed=told.append)
    metrics = Metrics(queue.census, lambda: None)
    queue.submit(job("a"), "ann")
    assert queue.wait_until_idle(30)
    queue.close()
    (ticket,) = told
    metrics.closed(ticket)
    metrics.closed(replace(ticket, state="cancelled", began=False, run=None))
    text, kind = metrics.page()
    lines = text.decode().splitlines()
    assert "openmetrics" in kind
    assert 'seedproof_jobs_total{outcome="failed"} 1.0' in lines
    assert 'seedproof_jobs_total{outcome="cancelled"} 1.0' in lines
    assert "seedproof_job_wait_seconds_count 1.0" in lines
    assert "seedproof_job_peak_bytes 5e+08" in lines
    assert "seedproof_worker_up 0.0" in lines


def test_a_policy_may_keep_metrics_to_itself(server: Server) -> None:
    client = server.client(Policy(metrics=False))
    assert client.get("/metrics").status_code == 404
    assert client.get("/healthz").status_code == 200


def test_the_journal_has_a_line_per_job_and_no_prompt(server: Server) -> None:
    server.jobs.submit(job("a"), "visitor:somebody")
    assert server.jobs.wait_until_idle(30)
    server.jobs.close()
    (line,) = server.lines()
    assert line["event"] == "job"
    assert line["outcome"] == "ok"
    assert line["owner"] == "visitor:somebody"
    assert "attention=none" in str(line["configuration"])
    assert float(str(line["waited_seconds"])) >= 0
    assert SECRET not in server.log.getvalue()


def test_a_journal_that_nobody_reads_ends_no_work(tmp_path: Path) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    queue = JobQueue(FakeEngine(), closed=Journal(Gone()).closed)
    for name in ("a", "b"):
        queue.submit(job(name), "ann")
        assert queue.wait_until_idle(30)
    assert queue.open
    queue.close()
    assert not queue.open


def test_a_cancel_before_the_begin_is_told_too() -> None:
    gate, told = threading.Event(), []

    class Waits(FakeEngine):
        def run(self, job: Job, watch: object) -> Run:
            gate.wait(30)
            return super().run(job, watch)  # type: ignore[arg-type]

    queue = JobQueue(Waits(), closed=told.append)
    queue.submit(job("a"), "ann")
    queue.submit(job("b"), "ann")
    queue.cancel("b", "ann")
    assert [(t.job.id, t.state, t.began) for t in told] == [("b", "cancelled", False)]
    gate.set()
    assert queue.wait_until_idle(30)
    queue.close()
    assert [t.job.id for t in told] == ["b", "a"]
