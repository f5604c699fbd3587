"""Grids under way: fed to the queue a few at a time, owned, cancelled, and continued."""

import contextvars
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.grid import Grid, grid
from core.grid_axis import KINDS, axis, parsed
from core.optimizations import configure
from core.request import Job, Request, StepEvent, Watch
from core.run import Run
from core.store import Store
from tests.fake_engine import PLATFORM, Behaviour, FakeEngine
from tests.test_pages import EVIL, POCKET, made, services  # noqa: F401, a fixture
from webapp import grid_card
from webapp.grid_form import GridForm
from webapp.grids import Grids, GridState
from webapp.jobs import JobQueue
from webapp.services import Services

ANN, BOB = "visitor:ann", "visitor:bob"


class Gate(FakeEngine):
    """Makes one picture per `let`, and writes down whose."""

    def __init__(self, pictures: Path) -> None:
        super().__init__(pictures=pictures)
        self.turns = threading.Semaphore(0)
        self.order: list[str] = []

    def let(self, count: int) -> None:
        for _ in range(count):
            self.turns.release()

    def run(self, job: Job, watch: Watch) -> Run:
        while not self.turns.acquire(timeout=0.01):
            if watch.cancelled():
                return super().run(job, watch)
        watch.on_step(StepEvent(step=1, num_inference_steps=1, sigma=1.0, seconds=0.01))
        self.order.append(job.requests[0].prompt)
        return super().run(job, watch)


class Server:
    """A queue and its grids on a database."""

    def __init__(self, folder: Path, engine: FakeEngine | None = None) -> None:
        self.store = Store(folder / "seedproof.db")
        self.engine = engine or Gate(self.store.pictures)
        self.jobs = JobQueue(
            self.engine,
            self.store.add_generation,
            closed=lambda ticket: self.grids.closed(ticket),
            waiting_per_owner=3,
        )
        self.grids = Grids(self.store, self.jobs)

    @property
    def gate(self) -> Gate:
        assert isinstance(self.engine, Gate)
        return self.engine

    def look(self, grid_id: str, owner: str = ANN) -> GridState:
        state = self.grids.look(grid_id, owner)
        assert state is not None
        return state

    def until(self, grid_id: str, done: int, owner: str = ANN) -> GridState:
        deadline = time.monotonic() + 20
        while (state := self.look(grid_id, owner)).done < done or (
            done == len(state.grid.jobs) and state.working
        ):
            assert time.monotonic() < deadline, state
            time.sleep(0.005)
        return state

    def close(self) -> None:
        self.jobs.close()
        self.store.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def plan(prompt: str = "grid", *axes: str) -> Grid:
    request = Request(prompt=prompt, model=POCKET, num_inference_steps=1, width=64, height=64)
    return grid(request, {}, tuple(parsed(text) for text in axes or ("seed=1-6",)), PLATFORM)


def single(prompt: str) -> Job:
    request = Request(prompt=prompt, model=POCKET, num_inference_steps=1, width=64, height=64)
    return Job(id=prompt, requests=(request,), configuration=configure({}, PLATFORM))


def test_cells_arrive_and_others_are_served_between_them(server: Server) -> None:
    grid_id = server.grids.start(plan(), "ann's", ANN)
    server.jobs.submit(single("bob 1"), BOB)
    server.jobs.submit(single("bob 2"), BOB)
    server.gate.let(2)
    state = server.until(grid_id, 1)
    assert state.working
    assert [figure is not None for figure in state.figures.values()][:1] == [True]
    server.gate.let(6)
    state = server.until(grid_id, 6)
    assert not state.working
    assert not state.missing
    assert server.gate.order[:5] == ["grid", "bob 1", "grid", "bob 2", "grid"]


def test_a_grid_leaves_its_owner_room_and_waits_for_it(server: Server) -> None:
    """The queue takes three waiting jobs of one person here, and a grid takes two of them."""
    grid_id = server.grids.start(plan(), "grid", ANN)
    server.jobs.submit(single("own"), ANN)
    for number in range(2):
        with_room = server.jobs.census()["waiting"] < 3
        if with_room:
            server.jobs.submit(single(f"own {number}"), ANN)
    second = server.grids.start(plan("second"), "second", ANN)
    server.gate.let(30)
    server.until(grid_id, 6)
    server.until(second, 6)
    assert "own" in server.gate.order


def test_a_grid_is_its_owners(server: Server) -> None:
    grid_id = server.grids.start(plan(), "grid", ANN)
    assert server.grids.look(grid_id, BOB) is None
    assert server.store.grids(BOB) == ()
    assert [entry.name for entry in server.store.grids(ANN)] == ["grid"]
    server.grids.cancel(grid_id, BOB)
    server.grids.resume(grid_id, BOB)
    server.gate.let(6)
    assert not server.until(grid_id, 6).missing
    assert server.store.history(BOB).total == 0


def test_what_is_cancelled_is_continued_and_what_is_made_stays(server: Server) -> None:
    grid_id = server.grids.start(plan(), "grid", ANN)
    server.gate.let(2)
    kept = {job_id for job_id, run in server.until(grid_id, 2).runs.items() if run.outcome == "ok"}
    server.grids.cancel(grid_id, ANN)
    deadline = time.monotonic() + 20
    while server.look(grid_id).working:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert len(server.look(grid_id).missing) == 4
    server.gate.let(10)
    server.grids.resume(grid_id, ANN)
    server.grids.resume(grid_id, ANN)
    state = server.until(grid_id, 6)
    assert not state.missing
    assert kept < set(state.runs)
    assert len(server.gate.order) == 6, "nothing is made twice"
    assert server.store.history(ANN).total == 6


def test_what_the_queue_refuses_is_one_sentence_and_can_be_made_later(tmp_path: Path) -> None:
    """The queue's own thread asks for the next cell: a refusal must not end it."""
    server = Server(tmp_path, FakeEngine(pictures=tmp_path / "pictures"))
    room = [2]

    def admit(job: Job, owner: str, kept: bool) -> None:
        if owner == ANN and len(server.store.generations()) >= room[0]:
            raise ValueError(f"Your pictures take {EVIL}: delete some.")

    server.jobs.close()
    server.jobs = JobQueue(
        server.engine,
        server.store.add_generation,
        closed=lambda ticket: server.grids.closed(ticket),
        admit=admit,
        waiting_per_owner=1,
    )
    server.grids = Grids(server.store, server.jobs)
    grid_id = server.grids.start(plan(), "grid", ANN)
    assert server.jobs.wait_until_idle(20)
    state = server.look(grid_id)
    assert not state.working
    assert 2 <= state.done <= 3
    shown = grid_card.status(state, "grid")
    assert "delete some" in shown
    assert EVIL not in shown
    room[0] = 100
    server.grids.resume(grid_id, ANN)
    state = server.until(grid_id, 6)
    assert not state.missing
    assert "delete some" not in grid_card.status(state, "grid")
    server.jobs.submit(single("bob"), BOB)
    assert server.jobs.wait_until_idle(20), "the queue goes on"
    server.close()


def test_a_grid_counts_for_whoever_asked_for_it(tmp_path: Path) -> None:
    """On ZeroGPU a job's context says whose quota it takes, also of cells that follow later."""
    asker = contextvars.ContextVar("asker", default="nobody")
    seen: list[str] = []

    class Listening(FakeEngine):
        def run(self, job: Job, watch: Watch) -> Run:
            seen.append(asker.get())
            return super().run(job, watch)

    server = Server(tmp_path, Listening(pictures=tmp_path / "pictures"))
    token = asker.set("ann")
    grid_id = server.grids.start(plan(), "grid", ANN)
    asker.reset(token)
    server.until(grid_id, 6)
    assert seen == ["ann"] * 6
    server.close()


def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    before = Server(tmp_path)
    grid_id = before.grids.start(plan(), "grid", ANN)
    before.gate.let(2)
    before.until(grid_id, 2)
    before.close()
    after = Server(tmp_path)
    state = after.look(grid_id)
    assert not state.working
    assert len(state.missing) == 4
    after.gate.let(10)
    after.grids.resume(grid_id, ANN)
    assert not after.until(grid_id, 6).missing
    assert len(after.gate.order) == 4
    after.close()


def test_a_failed_cell_is_tried_again(tmp_path: Path) -> None:
    engine = FakeEngine(
        pictures=tmp_path / "pictures", behaviours={"attention=none": Behaviour(fails="no luck")}
    )
    server = Server(tmp_path, engine)
    grid_id = server.grids.start(plan("x", "attention=sdp,none"), "grid", ANN)
    state = server.until(grid_id, 2)
    assert len(state.missing) == 1
    assert "no luck" in grid_card.table(state)
    engine.behaviours = {}
    server.grids.resume(grid_id, ANN)
    deadline = time.monotonic() + 20
    while server.look(grid_id).missing:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert "no luck" not in grid_card.table(server.look(grid_id))
    server.close()


def test_a_grid_is_shown_with_what_is_typed_escaped(tmp_path: Path) -> None:
    server = Server(tmp_path, FakeEngine(pictures=tmp_path / "pictures"))
    evil = plan(f"a {EVIL}", f'prompt=img,"{EVIL.replace(chr(34), "")}"')
    grid_id = server.grids.start(evil, EVIL, ANN)
    state = server.until(grid_id, 2)
    shown = grid_card.table(state) + grid_card.status(state, EVIL)
    shown += grid_card.listing(server.store.grids(ANN))
    assert "<img src=x" not in shown
    assert "compared with" in shown
    assert f"./compare?a={evil.cells[0].job.id}&amp;b={evil.cells[1].job.id}" in shown
    assert "2 of 2 pictures" in shown
    server.close()


FIRST = ("a panda", "7", 4, "attention", "", "", "sdp, none", "", "", "first")


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, " ", "Write what the pictures"),
        (1, "x", "A seed is a whole number"),
        (3, "", "needs an axis"),
        (6, "sdp, magic", "no option 'magic'"),
        (4, "steps", "There is no value"),
    ],
)
def test_a_form_becomes_a_grid_or_one_sentence(
    services: Services,  # noqa: F811
    place: int,
    value: str,
    words: str,
) -> None:
    form = made(lambda: GridForm(services))
    good = form.grid(form.usual(), *FIRST)
    assert [cell.job.configuration.get("attention") for cell in good.cells] == ["sdp", "none"]
    assert {cell.job.requests[0].seed for cell in good.cells} == {7}
    wrong: list[Any] = [*FIRST]
    wrong[place] = value
    with pytest.raises(ValueError, match=words):
        form.grid(form.usual(), *wrong)


@pytest.mark.parametrize(("name", "line"), [("steps", "4, 101"), ("size", "128x128, 512x128")])
def test_an_axis_goes_no_further_than_the_form(
    services: Services,  # noqa: F811
    name: str,
    line: str,
) -> None:
    form = made(lambda: GridForm(services))
    with pytest.raises(ValueError, match="at most"):
        form.grid(form.usual(), *FIRST[:3], name, "", "", line, "", "", "first")


def test_what_can_run_here_is_offered(services: Services) -> None:  # noqa: F811
    form = made(lambda: GridForm(services))
    assert "sdp" in form.offered("attention").split(", ")
    assert "xformers" not in form.offered("attention")
    assert form.offered("token-merging").startswith("off, ")
    assert form.offered("") == ""
    assert form.offered("prompt") == ""
    for known in KINDS:
        if known.name != "prompt":
            assert axis(known.name, form.offered(known.name)).values
