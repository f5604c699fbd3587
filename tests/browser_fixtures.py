"""The real app in a process of its own, with the shipped model, and a real browser before it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from audit.execution import run_audit
from audit.judgement import judge
from audit.plan import Plan
from core.models import resolve
from core.optimizations import configure
from core.platforms import Platform, detect
from core.request import Conditions, Job, Model, Request, Watch
from core.run import Run
from core.store import Store
from tests.browser import ADVICE, ARGUMENTS, find
from tests.fake_engine import Behaviour, FakeWorker, FakeWorkers
from webapp.places import REPOSITORY

START = 240
"""Seconds the app may take to open its doors where many programs want the cores."""
PATIENCE = 120_000
"""Milliseconds a page may take, for the same reason. Alone on two cores all take a few seconds."""


@dataclass(frozen=True)
class App:
    """A running app."""

    url: str
    database: Path
    audit_id: str
    """A complete audit that the database had before the app started."""

    @property
    def pictures(self) -> Path:
        return self.database.parent / "pictures"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("app")
    database = folder / "seedproof.db"
    audit_id = add_audit(database, resolve("pocket", REPOSITORY / "data" / "pocket"))
    with started(database) as url:
        yield App(url, database, audit_id)


@contextmanager
def started(database: Path, *options: str, attacked: bool = False) -> Iterator[str]:
    """The app on this database, until the block ends; its address.

    It may log no traceback, unless it is `attacked`: Gradio logs what it refuses as one.
    """
    port, log = free_port(), database.parent / "log"
    command = [sys.executable, "-m", "webapp", "serve"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--db", str(database), *options],
            cwd=REPOSITORY,
            env={**os.environ, "XDG_CACHE_HOME": str(database.parent / "cache")},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_for(f"{url}healthz", process, log)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    text = log.read_text()
    assert attacked or "Traceback" not in text, text


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    executable = find()
    if executable is None:
        pytest.fail(ADVICE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Visit:
    """One visitor: a page, and every host it asked for anything."""

    page: Page
    hosts: set[str]
    trouble: list[str]
    """Errors in the browser's console."""


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    context = chromium.new_context(viewport={"width": 1280, "height": 860})
    made = watch_page(context.new_page())
    yield made
    context.close()
    assert made.hosts <= {"127.0.0.1"}
    assert not made.trouble, made.trouble


def watch_page(page: Page) -> Visit:
    made = Visit(page, set(), [])
    page.set_default_timeout(PATIENCE)

    def asked(url: str) -> None:
        if url.startswith(("http", "ws")):
            made.hosts.add(url.split("/")[2].split(":")[0])

    page.on("request", lambda request: asked(request.url))
    page.on("websocket", lambda socket: asked(socket.url))
    # Gradio catches what our scripts throw, and writes it there.
    page.on("console", lambda line: made.trouble.append(line.text) if _ours(line) else None)
    page.on("pageerror", lambda error: made.trouble.append(str(error)))
    return made


def _ours(line: ConsoleMessage) -> bool:
    return line.type == "error" and line.text.startswith("Error ")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert process.poll() is None, f"the app ended:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"the app did not start:\n{log.read_text()}"
            time.sleep(0.2)


class _Here(FakeWorker):
    """A fake worker on this very platform."""

    def __init__(
        self, workers: FakeWorkers, number: int, conditions: Conditions, platform: Platform
    ) -> None:
        super().__init__(workers, number, conditions)
        self._platform = platform

    def run(self, job: Job, watch: Watch) -> Run:
        run = super().run(job, watch)
        here = replace(run.environment, fingerprint=self._platform.fingerprint)
        return replace(run, environment=here)


def add_audit(database: Path, model: Model) -> str:
    """A complete audit of this platform, its runs made up: nothing drifts where it should not.

    Skipping guidance is made up to keep every bit and save a third; merging tokens to save half
    and to change the picture; eager attention to round and to take longer.
    """
    platform = detect()
    baseline = configure({}, platform)
    prompts = ("a red apple", "a panda", "a rocket", "a penguin", "a bee")
    plan = Plan(
        name="made-up",
        summary="Made up for tests.",
        baseline=baseline,
        candidates=tuple(
            configure(settings, platform)
            for settings in (
                {"attention": "none"},
                {"min-sigma": "alternate:0.7"},
                {"token-merging": "seeded:0.5"},
                {"attention": "sub-quadratic"},
            )
        ),
        requests=tuple(
            Request(prompt=prompt, model=model, seed=seed, num_inference_steps=4)
            for seed, prompt in enumerate(prompts)
        ),
        exec_clusters=1,
        timing_blocks=6,
    )
    with Store(database) as store:
        workers = FakeWorkers(
            pictures=store.pictures,
            behaviours={
                "attention=none": Behaviour(levels=1, slowdown=1.6),
                "min-sigma=alternate:0.7": Behaviour(slowdown=0.66),
                "token-merging=seeded:0.5": Behaviour(levels=12, slowdown=0.5),
                "attention=sub-quadratic": Behaviour(levels=1, leaks=frozenset({"process"})),
            },
        )
        numbers = iter(range(1, 10_000))
        audit_id = run_audit(
            store,
            plan,
            platform,
            model,
            lambda conditions: _Here(workers, next(numbers), conditions, platform),
        )
        judge(store, audit_id)
    return audit_id
