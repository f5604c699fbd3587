"""Pictures of no audit: whose they are, how they are found, and that deleting forgets only them."""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlite_utils import Database

from core import thumbnail
from core.database import (
    MIGRATIONS,
    audits_and_runs,
    facets_tags_and_files,
    owned_generations,
    search_text,
)
from core.history import NOBODY
from core.narrowing import Narrowing
from core.optimization import Configuration
from core.request import Following, Job, Request
from core.run import Run
from core.store import Store
from tests.fake_engine import MODEL, PLATFORM, FakeEngine

ANN, BOB = "visitor:ann", "visitor:bob"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "seedproof.db") as store:
        yield store


def made(store: Store, name: str, **changes: object) -> Run:
    request = Request(prompt=name, model=MODEL, num_inference_steps=2, width=32, height=32)
    configuration = Configuration((("attention", "sdp"), ("token-merging", "seeded:0.5")))
    job = Job(id=name, requests=(replace(request, **changes),), configuration=configuration)
    return FakeEngine(pictures=store.pictures).run(job, Following())


def found(store: Store, owner: str, search: str = "", **part: int) -> list[str]:
    page = store.history(owner, search, **part)
    return [generation.run.job.id for generation in page.generations]


def test_everyone_sees_only_their_own_and_nobody_sees_what_is_nobodys(store: Store) -> None:
    for name, owner in (("a1", ANN), ("b", BOB), ("terminal", NOBODY), ("a2", ANN)):
        store.add_generation(made(store, name), owner)
    assert found(store, ANN) == ["a2", "a1"]
    assert found(store, BOB) == ["b"]
    assert found(store, NOBODY) == []
    assert store.history(ANN).generations[0].run == made(store, "a2")
    assert len(store.generations()) == 4
    assert (store.owner("b"), store.owner("nothing")) == (BOB, NOBODY)


def test_an_address_opens_any_picture_however_many_came_after(store: Store) -> None:
    store.add_generation(made(store, "first"), ANN)
    for number in range(600):
        store.add_generation(replace(made(store, "x"), pictures=()), BOB)
        if number == 0:
            assert store.generation("first") == made(store, "first")
    assert store.generation("first") == made(store, "first")
    assert store.generation("nobody's") is None


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ("APPLE", ["red apple", "green apple"]),
        ("apple red", ["red apple"]),
        ("ÄPFEL", ["äpfel"]),
        ("token-merging=seeded", ["äpfel", "red apple", "green apple"]),
        ("seed 12", ["red apple"]),
        ("%", []),
        ("sdp-no-mem", []),
    ],
)
def test_every_word_is_looked_for_in_prompts_and_settings(
    store: Store, search: str, names: list[str]
) -> None:
    store.add_generation(made(store, "green apple"), ANN)
    store.add_generation(made(store, "red apple", seed=12), ANN)
    store.add_generation(made(store, "äpfel"), ANN)
    assert found(store, ANN, search) == names
    assert store.history(ANN, search, limit=1).total == len(names)


def test_pages_follow_each_other_without_failed_and_cancelled_runs(store: Store) -> None:
    for number in range(7):
        store.add_generation(made(store, str(number)), ANN)
    store.add_generation(replace(made(store, "no"), outcome="cancelled", pictures=()), ANN)
    pages = [found(store, ANN, limit=3, skip=skip) for skip in (0, 3, 6, 9)]
    assert pages == [["6", "5", "4"], ["3", "2", "1"], ["0"], []]
    assert store.history(ANN, limit=3, skip=9).total == 7


def test_the_index_alone_answers_a_search(store: Store) -> None:
    """So that records of several kilobytes are read for one page and not for thousands."""
    plan = store._db.execute(
        "explain query plan select id from generations where owner = ? and owner != '' and "
        "outcome = 'ok' and instr(searched, ?) order by id desc limit 24 offset 48",
        [ANN, "apple"],
    ).fetchall()
    (step,) = (line[-1] for line in plan)
    assert "USING COVERING INDEX generations_by_owner" in step


def test_deleting_takes_ones_own_run_and_its_file(store: Store) -> None:
    run = made(store, "a")
    path = run.pictures[0].path
    assert path is not None
    store.add_generation(run, ANN)
    for owner in (BOB, NOBODY):
        assert not store.delete_generation("a", owner)
        assert store.generation("a") == run
    assert path.is_file()
    assert store.delete_generation("a", ANN)
    assert store.generation("a") is None
    assert not path.exists()
    assert not store.delete_generation("a", ANN)


def test_what_is_nobodys_cannot_be_deleted_through_nobody(store: Store) -> None:
    store.add_generation(made(store, "a"))
    assert not store.delete_generation("a", NOBODY)
    assert store.generation("a") is not None


def test_a_file_that_somebody_else_shows_stays(store: Store) -> None:
    """Equal pictures are one file: another person's, or an audit's."""
    run = made(store, "a")
    path = run.pictures[0].path
    assert path is not None
    twin = replace(run, job=replace(run.job, id="twin"))
    store.add_generation(run, ANN)
    store.add_generation(twin, BOB)
    store.delete_generation("a", ANN)
    assert path.is_file()
    audit_id = store.add_audit("test", plan=MODEL, platform=PLATFORM, model=MODEL)
    store.add_run(audit_id, "identity", run)
    store.delete_generation("twin", BOB)
    assert path.is_file()


def test_what_an_older_version_kept_is_nobodys_and_found_by_its_address(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with Store(tmp_path / "new.db") as store:
        run = made(store, "a")
        text = store._dump(run)
    older(path, owned_generations.__name__, {"run": text, "created_at": "2026-01-01"})
    with Store(path) as store:
        assert store.generation("a") == run
        assert store.owner("a") == NOBODY
        (row,) = store._rows("select searched, outcome from generations")
        assert row == {"searched": search_text(json.loads(text)), "outcome": "ok"}
        name = run.pictures[0].path.name if run.pictures[0].path else ""
        assert store._rows("select name from generation_files") == [{"name": name}]
        assert not store.shows(NOBODY, name)
    assert audits_and_runs.__name__ in _applied(path)


def test_an_older_version_is_narrowed_and_cleared_like_a_new_one(tmp_path: Path) -> None:
    """What the step computes from stored runs is what a new run is kept with."""
    with Store(tmp_path / "seedproof.db") as store:
        run = made(store, "a", sampler="DDIM", width=64)
        store.add_generation(run, ANN)
        columns = "sampler, size, settings, platform, model, tags, shared"
        fresh = store._rows(f"select {columns} from generations")
        before = "run, created_at, owner, job_id, outcome, searched"
        (row,) = store._rows(f"select {before} from generations")
    path = tmp_path / "old.db"
    older(path, facets_tags_and_files.__name__, row)
    with Store(path) as store:
        assert store._rows(f"select {columns} from generations") == fresh
        assert fresh[0]["size"] == "64x32"
        file = run.pictures[0].path
        assert file is not None
        assert file.is_file()
        assert store.delete_generation("a", ANN)
        assert not file.exists()


def older(path: Path, next_step: str, generation: dict[str, Any]) -> None:
    """A file of the version before a step, with one picture."""
    db = Database(path)
    MIGRATIONS.apply(db, stop_before=next_step)
    db.table("generations").insert(generation)
    db.close()


def test_tags_are_ones_own_and_found_whole(store: Store) -> None:
    for name in ("a", "b"):
        store.add_generation(made(store, name), ANN)
    assert store.change_tags(["a", "b", "nothing"], ANN, add="  Blue  SKY ") == 2
    assert store.change_tags(["a"], ANN, add="blue sky") == 0, "it has it already"
    assert store.change_tags(["a"], ANN, add="%") == 1
    assert store.change_tags(["a"], BOB, add="x") == 0
    assert store.tags(ANN) == {"%": 1, "blue sky": 2}
    assert store.tags(BOB) == store.tags(NOBODY) == {}
    assert narrowed(store, tag="blue sky") == ["b", "a"]
    assert narrowed(store, tag="blue") == []
    assert store.history(ANN).generations[1].tags == ("%", "blue sky")
    assert store.change_tags(["a"], ANN, remove="Blue sky") == 1
    assert narrowed(store, tag="blue sky") == ["b"]
    for wrong in (",", "a,b", " ", "x" * 41):
        with pytest.raises(ValueError, match="A tag is 1 to 40"):
            store.change_tags(["a"], ANN, add=wrong)


def test_pictures_are_narrowed_by_what_made_them(store: Store) -> None:
    store.add_generation(made(store, "a", sampler="DDIM"), ANN)
    store.add_generation(made(store, "b", width=64), ANN)
    assert narrowed(store, sampler="DDIM") == ["a"]
    assert narrowed(store, size="64x32") == ["b"]
    assert narrowed(store, setting="attention=sdp") == ["b", "a"]
    assert narrowed(store, setting="token-merging=seeded") == [], "a setting is whole"
    evidence = store.facets(ANN)[0].evidence
    assert narrowed(store, evidence=(evidence, ("x", "y", "z"))) == ["b", "a"]
    assert narrowed(store, evidence=(("x", "y", "z"),)) == []


def narrowed(store: Store, **by: Any) -> list[str]:
    page = store.history(ANN, narrowing=Narrowing(**by))
    assert page.total == len(page.generations)
    return [generation.run.job.id for generation in page.generations]


def test_only_its_owner_shares_a_picture_and_only_then_it_is(store: Store) -> None:
    for name, owner in (("a", ANN), ("terminal", NOBODY)):
        store.add_generation(made(store, name), owner)
    assert not store.share("a", BOB, True)
    assert not store.share("terminal", NOBODY, True)
    kept = [store.kept(name) for name in ("a", "terminal")]
    assert [(one.owner, one.shared) for one in kept if one] == [(ANN, False), (NOBODY, False)]
    assert store.kept("nothing") is None
    run = made(store, "a")
    file = run.pictures[0].path
    assert file is not None
    assert store.shows(ANN, file.name)
    assert not store.shows(BOB, file.name)
    assert store.share("a", ANN, True)
    opened = store.kept("a")
    assert opened is not None
    assert opened.shared
    assert opened.run == run
    assert store.shows(BOB, file.name)
    assert store.stored_bytes(BOB) == 0
    assert store.share("a", ANN, False)
    assert not store.shows(BOB, file.name)


def test_a_twins_file_is_its_pictures_in_everything(store: Store) -> None:
    run = made(store, "a")
    again = replace(made(store, "b", seed=9), job=replace(run.job, id="again"))
    store.add_generation(run, ANN)
    alone = store.stored_bytes(ANN)
    store.add_twin("a", {"verdict": "rounding"}, again)
    file = again.pictures[0].path
    assert file is not None
    assert store.shows(ANN, file.name)
    assert not store.shows(BOB, file.name)
    assert store.stored_bytes(ANN) == alone + file.stat().st_size
    store.share("a", ANN, True)
    assert store.shows(BOB, file.name)
    assert store.delete_generations(["a"], BOB) == 0
    assert file.is_file()
    assert store.delete_generations(["a"], ANN) == 1
    assert not file.exists()
    assert store._rows("select * from twins") == store._rows("select * from generation_files") == []


def test_half_a_character_is_kept_as_none_and_breaks_nothing(store: Store) -> None:
    """What a browser sends by hand: half of a surrogate pair is no text for SQLite."""
    store.add_generation(made(store, "a"), ANN)
    half = "\ud800"
    assert store.change_tags(["a", half], ANN, add=f"x{half}") == 1
    assert list(store.tags(ANN)) == ["x?"]
    assert not store.share(half, ANN, True)
    assert store.delete_generations([half], ANN) == 0
    assert store.runs_of([half], ANN) == {}
    assert not store.rename_style(half, f"y{half}", ANN)
    assert not store.delete_preset(half, ANN)
    assert store.kept(half) is store.twin(half, str) is None


def test_large_pictures_have_small_copies_that_go_with_them(store: Store) -> None:
    run = made(store, "a", width=512, height=320)
    path = run.pictures[0].path
    assert path is not None
    store.add_generation(run, ANN)
    small = thumbnail.of(path, 512, 320)
    with Image.open(small) as image:
        assert image.size == (256, 160)
        assert not image.info.get("exif")
    before = small.stat().st_mtime_ns
    assert thumbnail.of(path, 512, 320) == small
    assert small.stat().st_mtime_ns == before, "made once"
    assert thumbnail.of(path, 256, 128) == path, "a small one is its own"
    assert thumbnail.shown_by(small) == thumbnail.shown_by(path) == path
    store.delete_generation("a", ANN)
    assert not small.exists()


def _applied(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    names = [name for (name,) in connection.execute("select name from _sqlite_migrations")]
    connection.close()
    return names
