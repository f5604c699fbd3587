"""Shadow twins: which pictures get one, what it says, and that it gives way."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from audit.pictures import load_picture
from audit.twin import Twin, twin_job, twin_of, without_twin
from core.engine import Engine
from core.optimization import Configuration
from core.optimizations import configure
from core.request import Conditions, Following, Job, Request, Watch
from core.run import Run
from core.store import Store
from tests.fake_engine import MODEL, PLATFORM, Behaviour, FakeEngine
from webapp.jobs import JobQueue
from webapp.shadow import Shadow
from webapp.twin_card import card, mark

BASELINE = configure({}, PLATFORM)
MERGED = configure({"token-merging": "fixed:0.5"}, PLATFORM)
VALUE = f"token-merging={MERGED.get('token-merging')}"
ANN = "visitor:ann"


def job(name: str, configuration: Configuration = MERGED) -> Job:
    request = Request(prompt=name, model=MODEL, num_inference_steps=3, width=64, height=64)
    return Job(id=name, requests=(request,), configuration=configuration)


def engine(folder: Path, levels: int = 0) -> FakeEngine:
    return FakeEngine(pictures=folder, behaviours={VALUE: Behaviour(levels=levels)})


def until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not met():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


@pytest.mark.parametrize(("levels", "word"), [(0, "bit-exact"), (1, "rounding")])
def test_a_twin_says_how_far_the_settings_moved_this_picture(
    tmp_path: Path, levels: int, word: str
) -> None:
    makes = engine(tmp_path, levels)
    run = makes.run(job("a cat"), Following())
    again = makes.run(twin_job(run, BASELINE), Following())
    twin = twin_of(run, again, load_picture)
    assert (twin.verdict, twin.baseline, twin.reason) == (word, BASELINE.key, "")
    assert [one.max_abs for one in twin.pictures] == [levels]
    assert twin.pictures[0].baseline_picture == again.pictures[0].path
    assert again.job.requests == run.job.requests


def test_not_every_picture_can_have_one(tmp_path: Path) -> None:
    run = engine(tmp_path).run(job("a cat"), Following())
    here = PLATFORM.fingerprint
    assert without_twin(run, BASELINE, here) == ""
    assert "another platform" in without_twin(run, BASELINE, "elsewhere")
    plain = replace(run, job=replace(run.job, configuration=BASELINE))
    assert "baseline's settings" in without_twin(plain, BASELINE, here)
    limited = replace(run, job=replace(run.job, conditions=Conditions(threads=1)))
    assert "conditions" in without_twin(limited, BASELINE, here)
    for picture in run.pictures:
        assert picture.path is not None
        picture.path.unlink()
    assert "file is gone" in without_twin(run, BASELINE, here)


def test_a_baseline_that_fails_or_loses_its_file_is_a_reason_and_no_verdict(tmp_path: Path) -> None:
    makes = engine(tmp_path, 2)
    run = makes.run(job("a cat"), Following())
    again = makes.run(twin_job(run, BASELINE), Following())
    failed = twin_of(run, replace(again, outcome="failed", reason="No room."), load_picture)
    assert (failed.verdict, failed.reason) == (None, "The baseline could not make it: No room.")
    assert again.pictures[0].path is not None
    again.pictures[0].path.unlink()
    lost = twin_of(run, again, load_picture)
    assert lost.verdict is None
    assert lost.reason.startswith("The pictures could not be compared")


@dataclass
class Audit:
    """As much of the audits as a shadow looks at."""

    running: str | None = None


class SlowBaseline:
    """Makes the baseline's pictures only when told to, or until it is cancelled."""

    def __init__(self, makes: Engine) -> None:
        self.makes = makes
        self.begun = threading.Event()
        self.go = threading.Event()

    def run(self, job: Job, watch: Watch) -> Run:
        if job.configuration == BASELINE:
            self.begun.set()
            while not self.go.wait(0.01) and not watch.cancelled():
                pass
        return self.makes.run(job, watch)


@dataclass
class Server:
    store: Store
    jobs: JobQueue
    engine: SlowBaseline
    audits: Audit

    def make(self, name: str, configuration: Configuration = MERGED) -> None:
        self.jobs.submit(job(name, configuration), ANN)
        until(lambda: self.store.generation(name) is not None)

    def twin(self, name: str) -> Twin | None:
        return self.store.twin(name, Twin)

    @contextmanager
    def shadow(self) -> Iterator[None]:
        audits: Any = self.audits
        shadow = Shadow(self.store, self.jobs, audits, PLATFORM, quiet=0.05)
        try:
            yield
        finally:
            shadow.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Store(tmp_path / "seedproof.db") as store:
        makes = SlowBaseline(engine(store.pictures, levels=1))
        jobs = JobQueue(makes, store.add_generation)
        yield Server(store, jobs, makes, Audit())
        makes.go.set()
        jobs.close()


def test_an_idle_server_looks_after_every_picture_once_the_newest_first(server: Server) -> None:
    server.engine.go.set()
    for name, configuration in (("old", MERGED), ("plain", BASELINE), ("new", MERGED)):
        server.make(name, configuration)
    with server.shadow():
        until(lambda: server.twin("old") is not None)
    new, plain, old = (server.twin(name) for name in ("new", "plain", "old"))
    assert new is not None
    assert plain is not None
    assert old is not None
    assert (new.verdict, plain.verdict, old.verdict) == ("rounding", None, "rounding")
    assert plain.reason == "It was made with the baseline's settings."
    assert [g.run.job.id for g in server.store.history(ANN).generations] == ["new", "plain", "old"]


def test_whoever_comes_goes_first_and_the_twin_is_made_another_time(server: Server) -> None:
    server.make("a cat")
    with server.shadow():
        assert server.engine.begun.wait(20)
        server.make("a dog")
        assert server.twin("a cat") is None
        server.engine.go.set()
        until(lambda: server.twin("a cat") is not None and server.twin("a dog") is not None)


def test_no_twin_is_made_beside_an_audit(server: Server) -> None:
    server.make("a cat")
    with server.shadow():
        assert server.engine.begun.wait(20)
        server.audits.running = "an audit"
        until(lambda: not server.jobs.busy)
        server.engine.begun.clear()
        assert not server.engine.begun.wait(0.5)
        assert server.twin("a cat") is None


def test_deleting_a_picture_deletes_its_twin_and_the_twins_file(server: Server) -> None:
    server.engine.go.set()
    server.make("a cat")
    with server.shadow():
        until(lambda: server.twin("a cat") is not None)
    twin = server.twin("a cat")
    assert twin is not None
    files = [twin.pictures[0].baseline_picture, twin.pictures[0].candidate_picture]
    assert all(file is not None and file.is_file() for file in files)
    assert not server.store.delete_generation("a cat", "visitor:bob")
    assert server.twin("a cat") == twin
    assert server.store.delete_generation("a cat", ANN)
    assert server.twin("a cat") is None
    assert not any(file is not None and file.exists() for file in files)
    server.store.add_twin("a cat", twin)
    assert server.twin("a cat") is None, "the picture is gone"


def test_the_card_says_what_is_known_and_no_more(tmp_path: Path) -> None:
    makes = engine(tmp_path, 1)
    run = makes.run(job("a <b>cat</b>"), Following())
    twin = twin_of(run, makes.run(twin_job(run, BASELINE), Following()), load_picture)
    assert card(run, None, expected=False) == ""
    assert "waiting for an idle moment" in card(run, None, expected=True)
    shown = card(run, twin, expected=True)
    assert "rounding moved" in shown
    assert shown.count("<img") == 2
    assert "<b>cat" not in shown
    assert "rounding moved" in mark(twin)
    none = Twin(baseline=BASELINE.key, reason="Its <file> is gone.")
    assert mark(none) == mark(None) == ""
    assert "Its &lt;file&gt; is gone." in card(run, none, expected=True)
