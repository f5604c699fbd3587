"""Whether pictures still take as long as the audit measured, from records."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from audit.pace import PaceChange, noise_of, pace_changes, told
from audit.score import Audit, TimedRuns, TimeRatio
from core.request import Following, Job
from core.run import Part, Run, Timings, Usage
from core.serialization import dump, load
from core.store import Store
from core.workload import picture_seconds, workload_of
from tests.audit_records import (
    BASELINE,
    PLATFORM,
    Records,
    configuration,
    made_score,
    request,
)
from tests.fake_engine import FakeEngine
from webapp.cli import main

LATER = "2026-03-01T00:00:00.000+00:00"
OTHER = configuration(precision="bf16")


def made(seconds: float, *, at: str = LATER, calls: int = 1, chosen: object = BASELINE) -> Run:
    """A picture that took so long, by a process that had finished `calls` runs."""
    job = Job(id="j", requests=(request(0),), configuration=chosen)  # type: ignore[arg-type]
    run = FakeEngine().run(job, Following())
    here = replace(
        run.environment,
        fingerprint=PLATFORM.fingerprint,
        started_at=at,
        calls_before=calls,
        process_id="server",
    )
    return replace(run, environment=here, timings=Timings(denoise=seconds - 0.1, decode=0.1))


def timed(low: float, middle: float, high: float, run: Run | None = None) -> TimedRuns:
    workload = workload_of(run or made(1.0))
    return TimedRuns(workload=workload, fastest=low, median=middle, slowest=high, runs=12)


def audited(*rows: TimedRuns, placebo: TimeRatio | None = None) -> Audit:
    scores = [made_score(BASELINE, timed=rows)]
    if placebo:
        scores.append(made_score(BASELINE, placebo=True, time_ratio=placebo, timed=rows))
    return Audit(
        audit_id="a1",
        plan="quick",
        started_at="2026-02-01T00:00:00.000+00:00",
        finished_at="2026-02-01T00:10:00.000+00:00",
        complete=True,
        runs_done=1,
        runs_planned=1,
        seconds=600.0,
        platform=PLATFORM,
        model_name="m",
        model_digest="d",
        num_inference_steps=4,
        width=128,
        height=128,
        baseline=BASELINE.key,
        scores=tuple(scores),
        controls=(),
        recommendations={},
    )


ROW = timed(0.95, 1.0, 1.1)


def test_a_row_that_became_slower_says_by_how_much_over_how_many() -> None:
    (change,) = pace_changes(audited(ROW), [made(seconds) for seconds in (1.5, 1.6, 1.7) * 2])
    assert (change.runs, change.pictures) == (6, 6)
    assert change.now == pytest.approx(1.6)
    assert change.ratio == pytest.approx(1.6)
    assert change.sentence == (
        f"{BASELINE.key} has become slower: measured then 1.00 s (0.950 s to 1.10 s, 12 runs), "
        "now 1.60 s over 6 pictures (1.60 ×): audit again."
    )


def test_faster_is_a_move_as_well() -> None:
    (change,) = pace_changes(audited(ROW), [made(0.5)] * 6)
    assert "faster" in change.sentence
    assert change.ratio == pytest.approx(0.5)


@pytest.mark.parametrize("seconds", [0.94, 1.0, 1.11])
def test_within_the_interval_and_its_noise_nothing_has_moved(seconds: float) -> None:
    assert pace_changes(audited(ROW), [made(seconds)] * 6) == ()


def test_a_placebo_that_strayed_widens_what_means_nothing() -> None:
    strayed = TimeRatio(median=1.0, ci95=(0.8, 1.0), pairs=12)
    audit = audited(ROW, placebo=strayed)
    assert noise_of(audit) == pytest.approx(1.25)
    assert pace_changes(audited(ROW), [made(1.3)] * 6)
    assert pace_changes(audit, [made(1.3)] * 6) == ()
    assert pace_changes(audit, [made(1.4)] * 6)


def test_five_pictures_are_too_few_to_say_anything() -> None:
    assert pace_changes(audited(ROW), [made(3.0)] * 5) == ()


@pytest.mark.parametrize(
    "other",
    [
        made(3.0, at="2026-01-15T00:00:00.000+00:00"),
        made(3.0, calls=0),
        made(3.0, chosen=OTHER),
        replace(made(3.0), outcome="failed"),
        replace(
            made(3.0),
            job=replace(made(3.0).job, requests=(replace(request(0), num_inference_steps=20),)),
        ),
        replace(made(3.0), environment=replace(made(3.0).environment, fingerprint="elsewhere")),
        replace(made(3.0), environment=replace(made(3.0).environment, threads=1)),
    ],
    ids=["before", "warming up", "settings", "failed", "steps", "platform", "threads"],
)
def test_what_may_not_be_compared_does_not_count(other: Run) -> None:
    assert pace_changes(audited(ROW), [other] * 20) == ()


def test_what_was_slow_and_is_not_any_more_has_not_moved() -> None:
    slow = [made(3.0, at=f"2026-03-{day:02}T00:00:00.000+00:00") for day in range(1, 28)]
    usual = [made(1.0, at=f"2026-04-{day:02}T00:00:00.000+00:00") for day in range(1, 21)]
    assert pace_changes(audited(ROW), slow)
    assert pace_changes(audited(ROW), [*usual, *slow]) == ()


def test_previews_are_no_part_of_the_pace() -> None:
    preview = Part(name="preview", calls=4, seconds=0.6)
    run = replace(made(1.6), usage=Usage(parts=(preview,)))
    assert picture_seconds(run) == pytest.approx(1.0)
    assert pace_changes(audited(ROW), [run] * 6) == ()


def test_a_placebo_row_moves_nothing_twice() -> None:
    audit = audited(ROW, placebo=TimeRatio(median=1.0, ci95=(1.0, 1.0), pairs=12))
    assert len(pace_changes(audit, [made(3.0)] * 6)) == 1


def test_other_rows_are_told_by_their_number() -> None:
    change = PaceChange(key=BASELINE.key, then=ROW, now=3.0, runs=6, pictures=6, noise=1.02)
    others = (replace(change, key="x"), replace(change, key="y"))
    assert told((change, *others), None, BASELINE.key) == (
        change.sentence,
        "2 other configurations moved as well: audit again.",
    )
    assert told((change,), BASELINE.key, BASELINE.key) == (change.sentence,)
    assert told((), BASELINE.key, BASELINE.key) == ()


def test_scoring_keeps_what_each_row_timed_without_its_warm_up() -> None:
    records = Records()
    records.row(blocks=8)
    (row,) = records.audit().scores
    (found,) = row.timed
    assert found.runs == 8
    assert found.fastest <= found.median == row.seconds_median <= found.slowest < 1.1
    assert found.workload.configuration == BASELINE.key
    assert found.workload.fingerprint == PLATFORM.fingerprint


def test_the_terminal_says_that_the_times_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "seedproof.db"
    with Store(database) as store:
        audit_id = store.add_audit("quick", plan={}, platform=PLATFORM, model=request(0).model)
        store.save_result(audit_id, replace(audited(ROW), audit_id=audit_id))
        store.finish_audit(audit_id)
        for _ in range(6):
            store.add_generation(made(3.0))
    with pytest.raises(SystemExit) as ended:
        main(["recommend", "--db", str(database)])
    assert ended.value.code == 0
    assert f"stale: {BASELINE.key} has become slower" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["recommend", "--json", "--db", str(database)])
    (moved,) = json.loads(capsys.readouterr().out)["moved"]
    assert moved["now"] == pytest.approx(3.0)
    assert (moved["ratio"], moved["pictures"]) == (pytest.approx(3.0), 6)


def test_a_result_keeps_what_it_timed(tmp_path: Path) -> None:
    audit = audited(ROW)
    assert load(Audit, dump(audit, tmp_path), tmp_path) == audit
