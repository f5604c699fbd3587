"""The database: records come back equal, files move, and a foreign file is refused."""

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from audit.plan import Plan
from audit.score import (
    Audit,
    AxisVerdict,
    Comparison,
    Control,
    Drift,
    Recommendation,
    Score,
    Witness,
)
from core.database import StoreError
from core.optimization import Configuration
from core.platforms import Platform
from core.request import Following, Job, Model, Request
from core.run import Run
from core.serialization import dump, load
from core.store import Store
from tests.fake_engine import MODEL, PLATFORM, FakeEngine

SDP = Configuration((("attention", "sdp"), ("precision", "fp32")))
NONE = Configuration((("attention", "none"), ("precision", "fp32")))
REQUEST = Request(
    prompt="“näïve” 猫", model=MODEL, seed=7, width=32, height=24, guidance_scale=0.1 + 0.2
)
PLAN = Plan(
    name="test",
    baseline=SDP,
    candidates=(NONE,),
    requests=(REQUEST,),
    axes={"threads": (SDP.key,)},
    skipped={NONE.key: "cannot"},
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "seedproof.db") as store:
        yield store


def make_run(pictures: Path, seed: int = 7) -> Run:
    job = Job(id=f"job-{seed}", requests=(replace(REQUEST, seed=seed),), configuration=SDP)
    return FakeEngine(pictures=pictures).run(job, Following())


def make_audit(store: Store, audit_id: str) -> Audit:
    """Every record of `audit.score` once, with awkward numbers and paths."""
    picture = store.pictures / "ab" / "c.png"
    comparison = Comparison(
        prompt="p",
        seed=2**63,
        baseline_picture=picture,
        candidate_picture=None,
        verdict="rounding",
        ssim=1 / 3,
        ssim_worst_tile=-0.0,
        delta_e_mean=5e-324,
        delta_e_worst_tile=float("inf"),
        phash=0,
        max_abs=1,
        latent_relative_l2=1e-17,
    )
    drift = Drift(
        verdict="rounding",
        not_attributable=True,
        ssim_mean=0.1,
        ssim_min=0.2,
        ssim_worst_tile=0.3,
        delta_e_mean=0.4,
        delta_e_worst_tile=0.5,
        phash_max=1,
        max_abs=1,
        pictures=(comparison,),
    )
    witness = Witness(
        run_a="a",
        run_b="b",
        prompt="p",
        seed=1,
        picture_a=picture,
        picture_b=Path("/elsewhere/x.png"),
        first_differing_step=3,
        difference="They differ.",
    )
    score = Score(
        configuration=NONE,
        key=NONE.key,
        effect="applied",
        determinism={
            "threads": AxisVerdict(verdict="broken", trials=1, failures=1, witness=witness)
        },
        drift=drift,
    )
    recommendation = Recommendation(goal="exact", configuration=SDP, key=SDP.key, reason="Best.")
    return Audit(
        audit_id=audit_id,
        plan="test",
        started_at="2026-01-01",
        finished_at=None,
        complete=False,
        runs_done=1,
        runs_planned=2,
        seconds=1.5,
        platform=PLATFORM,
        model_name="fake",
        model_digest=MODEL.digest,
        num_inference_steps=3,
        width=32,
        height=24,
        baseline=SDP.key,
        scores=(score,),
        controls=(Control(name="ulp-nudge", what="moved", drift=drift),),
        recommendations={"exact": recommendation},
        notes=("Mind this.",),
    )


def test_records_come_back_equal(store: Store) -> None:
    audit_id = store.add_audit("test", plan=PLAN, platform=PLATFORM, model=MODEL)
    run = make_run(store.pictures)
    result = make_audit(store, audit_id)
    store.add_run(audit_id, "identity", run, seconds=0.5)
    store.save_result(audit_id, result)
    store.add_generation(run)

    assert store.plan(audit_id, Plan) == PLAN
    assert store.platform(audit_id, Platform) == PLATFORM
    assert store.model(audit_id, Model) == MODEL
    assert store.runs(audit_id) == {"identity": run}
    assert store.result(audit_id, Audit) == result
    assert store.generations() == (run,)
    assert store.audit(audit_id).runs == 1


def test_numbers_that_json_does_not_have_come_back(store: Store) -> None:
    audit = make_audit(store, "x")
    text = dump(audit, store.pictures)
    assert load(Audit, text, store.pictures).scores[0].drift == audit.scores[0].drift
    nan = replace(make_run(store.pictures).timings, load=float("nan"))
    again = load(type(nan), dump(nan, store.pictures), store.pictures)
    assert again.load != again.load


def test_a_moved_database_finds_its_pictures_and_leaves_other_paths(tmp_path: Path) -> None:
    with Store(tmp_path / "old" / "a.db") as store:
        audit_id = store.add_audit("test", plan=PLAN, platform=PLATFORM, model=MODEL)
        store.add_run(audit_id, "identity", make_run(store.pictures))
        store.save_result(audit_id, make_audit(store, audit_id))
    (tmp_path / "old").rename(tmp_path / "new")
    with Store(tmp_path / "new" / "a.db") as store:
        path = store.runs(audit_id)["identity"].pictures[0].path
        result = store.result(audit_id, Audit)
    assert path is not None
    assert path.is_file()
    assert path.parent == tmp_path / "new" / "pictures"
    assert result is not None
    witness = result.scores[0].determinism["threads"].witness
    assert witness is not None
    assert witness.picture_a == tmp_path / "new" / "pictures" / "ab" / "c.png"
    assert witness.picture_b == Path("/elsewhere/x.png")


def test_a_run_is_stored_once(store: Store) -> None:
    audit_id = store.add_audit("test", plan=PLAN, platform=PLATFORM, model=MODEL)
    store.add_run(audit_id, "identity", make_run(store.pictures), seconds=1)
    with pytest.raises(sqlite3.IntegrityError):
        store.add_run(audit_id, "identity", make_run(store.pictures, seed=8), seconds=1)
    assert store.runs(audit_id) == {"identity": make_run(store.pictures)}
    assert store.audit(audit_id).seconds == 1


def test_a_run_of_no_audit_is_refused(store: Store) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        store.add_run("nowhere", "identity", make_run(store.pictures))


def test_void_runs_are_set_aside_in_the_transaction_that_stores_their_successor(
    store: Store,
) -> None:
    audit_id = store.add_audit("test", plan=PLAN, platform=PLATFORM, model=MODEL)
    first, second = make_run(store.pictures, 1), make_run(store.pictures, 2)
    store.add_run(audit_id, "a", first)
    store.add_run(audit_id, "other", second)
    store.add_run(audit_id, "a", second, instead_of=["a", "b"])
    assert store.runs(audit_id) == {"other": second, "a": second}
    ((identity, run, reason),) = store.excluded_runs(audit_id)
    assert (identity, run) == ("a", first)
    assert "repeated" in reason
    with pytest.raises(sqlite3.IntegrityError):  # "other" is there: nothing of this may happen
        store.add_run(audit_id, "other", first, instead_of=["a"])
    assert store.identities(audit_id) == {"a", "other"}
    assert len(store.excluded_runs(audit_id)) == 1


def test_a_result_replaces_the_one_before_and_finishing_happens_once(store: Store) -> None:
    audit_id = store.add_audit("test", plan=PLAN, platform=PLATFORM, model=MODEL)
    assert store.result(audit_id, Audit) is None
    early = make_audit(store, audit_id)
    store.save_result(audit_id, early)
    store.save_result(audit_id, replace(early, complete=True))
    assert store.result(audit_id, Audit) == replace(early, complete=True)
    assert store.audit(audit_id).finished_at is None
    store.finish_audit(audit_id)
    finished = store.audit(audit_id).finished_at
    store.finish_audit(audit_id)
    assert finished
    assert store.audit(audit_id).finished_at == finished


def test_audits_come_latest_first_and_an_unknown_one_is_named(store: Store) -> None:
    ids = [
        store.add_audit(name, plan=PLAN, platform=PLATFORM, model=MODEL) for name in ("one", "two")
    ]
    assert [entry.id for entry in store.audits()] == ids[::-1]
    with pytest.raises(StoreError, match=r"No audit 'zzz' in .*; the latest are: "):
        store.plan("zzz", Plan)


def test_a_record_of_another_shape_says_what_to_do(store: Store) -> None:
    audit_id = store.add_audit("test", plan=PLAN, platform=PLATFORM, model=MODEL)
    store._db.execute("update audits set platform = '{}'")
    with pytest.raises(StoreError, match="a stored Platform does not have the shape"):
        store.platform(audit_id, Platform)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a database, just some text" * 100, "is not a SQLite database: name another file"),
        (b"SQLite format 3\x00" + b"\xff" * 5000, "name another file|is damaged"),
    ],
)
def test_a_file_that_is_no_database_is_refused_and_kept(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=message):
        Store(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("create table recipes (name text)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program's database: name another file"):
        Store(path)
    assert path.read_bytes() == before


def test_a_newer_versions_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with Store(path) as store:
        store._db.execute(
            "insert into _sqlite_migrations (migration_set, name, applied_at) "
            "values ('seedproof', 'teleportation', 'now')"
        )
    with pytest.raises(StoreError, match=r"newer version of Seedproof \(teleportation\): update"):
        Store(path)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        Store(tmp_path / "file" / "a.db")
    with pytest.raises(StoreError, match="cannot be used"):
        Store(tmp_path)


def test_others_read_while_one_writes(store: Store) -> None:
    audit_id = store.add_audit("test", plan=PLAN, platform=PLATFORM, model=MODEL)
    store.add_run(audit_id, "a", make_run(store.pictures))
    with store._writing() as db:
        db.execute("delete from runs")
        with Store(store.path) as reader:
            assert reader.identities(audit_id) == {"a"}
    assert store.identities(audit_id) == frozenset()


def test_threads_share_a_store(store: Store) -> None:
    audit_id = store.add_audit("test", plan=PLAN, platform=PLATFORM, model=MODEL)
    run = make_run(store.pictures)

    def write(name: str) -> None:
        for number in range(10):
            store.add_run(audit_id, f"{name}{number}", run, seconds=1)
            store.runs(audit_id)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.identities(audit_id)) == 40
    assert store.audit(audit_id).seconds == 40


def test_many_may_make_the_database_at_the_same_time(tmp_path: Path) -> None:
    answers: list[object] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        try:
            with Store(tmp_path / "a.db") as store:
                answers.append(len(store.audits()))
        except Exception as error:
            answers.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [0] * 8
