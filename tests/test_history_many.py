"""Ten thousand pictures: a page and a search read few records, whatever is asked for."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from core.database import FACETS, facets, search_text
from core.narrowing import Narrowing
from core.records import now
from core.store import Store
from tests.test_history import ANN, BOB, made

MANY = 10_000
T = TypeVar("T")


@dataclass
class Work:
    """What one question cost."""

    statements: list[str] = field(default_factory=list)
    records: int = 0
    """Of several kilobytes each, read and made into objects."""
    thousands: int = 0
    """Instructions of SQLite's own machine; it counts them, so that no clock is needed."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Rows as `add_generation` writes them, in one transaction."""
    with Store(tmp_path_factory.mktemp("many") / "seedproof.db") as store:
        store.add_generation(made(store, "hay"), BOB)
        text = store._rows("select run from generations")[0]["run"]
        columns = ("run", "created_at", "owner", "job_id", "outcome", "searched", *FACETS, "tags")
        rows = []
        for number in range(MANY):
            run = json.loads(text)
            request = run["job"]["requests"][0]
            run["job"]["id"] = f"many-{number}"
            request["prompt"] = "a needle" if number % 1000 == 17 else f"hay {number}"
            request["seed"] = number
            request["sampler"] = ("Euler", "DDIM", "Heun")[number % 3]
            request["width"] = 128 if number % 10 else 192
            tags = "\nblue\n" if number % 100 == 0 else ""
            stored = json.dumps(run, ensure_ascii=False, separators=(",", ":"))
            rows.append(
                [stored, now(), ANN, run["job"]["id"], "ok", search_text(run), *facets(run), tags]
            )
        marks = ", ".join("?" * len(columns))
        with store._writing() as db:
            db.conn.executemany(
                f"insert into generations ({', '.join(columns)}) values ({marks})", rows
            )
        yield store


def cost(store: Store, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], T]) -> tuple[T, Work]:
    work, load = Work(), store._load

    def loading(kind: Any, text: str) -> Any:
        work.records += 1
        return load(kind, text)

    def counting() -> int:
        work.thousands += 1
        return 0

    monkeypatch.setattr(store, "_load", loading)
    store._db.conn.set_trace_callback(
        lambda text: work.statements.append(text) if text.startswith("select") else None
    )
    store._db.conn.set_progress_handler(counting, 1000)
    try:
        return ask(), work
    finally:
        store._db.conn.set_trace_callback(None)
        store._db.conn.set_progress_handler(None, 0)


@pytest.mark.parametrize(
    ("search", "narrowing", "total"),
    [
        ("", Narrowing(), MANY),
        ("needle", Narrowing(), 10),
        ("hay 1234", Narrowing(), 1),
        ("nothing like it", Narrowing(), 0),
        ("", Narrowing(sampler="DDIM"), 3333),
        ("", Narrowing(size="192x32"), 1000),
        ("", Narrowing(setting="attention=sdp"), MANY),
        ("", Narrowing(setting="attention=sd"), 0),
        ("", Narrowing(tag="blue"), 100),
        ("hay", Narrowing(tag="blue", sampler="Euler", size="192x32"), 34),
        ("", Narrowing(evidence=()), 0),
    ],
)
@pytest.mark.parametrize("page", [0, 400])
def test_a_page_reads_what_it_shows(
    many: Store,
    monkeypatch: pytest.MonkeyPatch,
    search: str,
    narrowing: Narrowing,
    total: int,
    page: int,
) -> None:
    found, work = cost(
        many,
        monkeypatch,
        lambda: many.history(ANN, search, limit=24, skip=24 * page, narrowing=narrowing),
    )
    assert found.total == total
    assert len(found.generations) == max(0, min(24, total - 24 * page))
    assert len(work.statements) == 2
    assert work.records == len(found.generations) <= 24
    # Two walks through one index of ten thousand entries, at some dozens of instructions each.
    assert work.thousands < 250


def test_what_can_be_chosen_is_one_question_and_no_record(
    many: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, work = cost(many, monkeypatch, lambda: many.facets(ANN))
    assert sum(facet.count for facet in found) == MANY
    assert {facet.sampler for facet in found} == {"Euler", "DDIM", "Heun"}
    tags, more = cost(many, monkeypatch, lambda: many.tags(ANN))
    assert tags == {"blue": 100}
    assert len(work.statements) == len(more.statements) == 1
    assert work.records == more.records == 0
    assert work.thousands < 500


def test_the_index_alone_answers_what_is_counted(many: Store) -> None:
    where, parameters = Narrowing(
        search="hay", sampler="DDIM", size="32x32", setting="a=b", tag="x", evidence=(("a",) * 3,)
    ).where()
    plan = many._db.execute(
        "explain query plan select id from generations where owner = ? and owner != '' and "
        f"outcome = 'ok'{where} order by id desc limit 24 offset 48",
        [ANN, *parameters],
    ).fetchall()
    assert "USING COVERING INDEX generations_by_owner" in plan[0][-1]


def test_ids_of_everything_found_need_no_record(
    many: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, work = cost(many, monkeypatch, lambda: many.ids(ANN, Narrowing(tag="blue"), 50))
    assert len(ids) == 50
    assert ids[0] == "many-9900"
    assert work.records == 0


def test_many_are_deleted_in_one_transaction(tmp_path: Path) -> None:
    with Store(tmp_path / "seedproof.db") as store:
        runs = [made(store, str(number), seed=number) for number in range(30)]
        for run in runs:
            store.add_generation(run, ANN)
        kept = made(store, "kept")
        store.add_generation(kept, BOB)
        statements: list[str] = []
        store._db.conn.set_trace_callback(statements.append)
        ids = [run.job.id for run in runs] + ["kept", "nothing"]
        assert store.delete_generations(ids, ANN) == 30
        store._db.conn.set_trace_callback(None)
        assert sum(text.lower().startswith("begin") for text in statements) == 1
        assert sum("from runs" in text for text in statements) == 1
        assert [file for file in store.pictures.iterdir() if file.is_file()] == [
            kept.pictures[0].path
        ]


def test_the_counting_can_fail(many: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that reads every record is far above the bounds."""
    _, work = cost(many, monkeypatch, lambda: many.generations(200))
    assert work.records == 200
