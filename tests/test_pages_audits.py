"""Audits behind the page: they run without anybody looking, stop, resume, and give way."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audit.plan import Plan
from audit.score import Audit
from core.history import NOBODY
from core.optimizations import configure
from core.request import Job, Request, Watch
from core.run import Run
from core.store import Store
from tests.fake_engine import MODEL, PLATFORM, Behaviour, FakeEngine, FakeWorkers
from webapp import audit_card, row_card, scores_card
from webapp.audits import Audits, Occupied
from webapp.evidence_card import badge, mark
from webapp.findings import Finding, Findings
from webapp.heat_map import heat_map
from webapp.jobs import JobQueue
from webapp.recommend_page import RecommendPage, card
from webapp.wish_form import Wish

PATIENCE = 60.0


def plan(clusters: int = 5) -> Plan:
    return Plan(
        name="made-up",
        baseline=configure({}, PLATFORM),
        candidates=(
            configure({"attention": "none"}, PLATFORM),
            configure({"attention": "sub-quadratic"}, PLATFORM),
            configure({"attention": "xformers"}, PLATFORM),
        ),
        skipped={configure({"attention": "xformers"}, PLATFORM).key: "needs a GPU <here>"},
        requests=tuple(
            Request(prompt=f"<b>{n}</b>", model=MODEL, seed=n, num_inference_steps=2)
            for n in range(clusters)
        ),
        timing_blocks=6,
    )


class Bench:
    """A database, a queue of pictures, and audits on fake workers."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "seedproof.db"
        self.store = Store(self.database)
        self.gate = threading.Event()
        self.gate.set()
        self.runs = 0
        self.jobs = JobQueue(FakeEngine(pictures=self.store.pictures))
        self.workers = FakeWorkers(
            pictures=self.store.pictures,
            behaviours={
                "attention=none": Behaviour(levels=1, slowdown=1.5),
                "attention=sub-quadratic": Behaviour(leaks=frozenset({"process"}), levels=2),
            },
            dies=self._counted,
        )
        self.audits = Audits(self.store, PLATFORM, self.workers, self.jobs)

    def _counted(self, number: int, job: Job) -> bool:
        self.gate.wait(PATIENCE)
        self.runs += 1
        return False

    def state(self, audit_id: str) -> str:
        sitting = self.audits.sitting(audit_id)
        return sitting.state if sitting else "unknown"

    def close(self) -> None:
        self.gate.set()
        self.audits.close()
        self.jobs.close()
        self.store.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()
    assert not made.workers.alive


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_an_audit_runs_to_its_end_and_is_judged(bench: Bench) -> None:
    audit_id = bench.audits.start(plan(), MODEL)
    until(lambda: bench.state(audit_id) == "done")
    sitting = bench.audits.sitting(audit_id)
    assert sitting is not None
    assert sitting.done == sitting.total
    assert bench.audits.running is None
    result = bench.store.result(audit_id, Audit)
    assert result is not None
    assert result.complete
    assert bench.store.audit(audit_id).finished_at


def test_a_stopped_audit_goes_on_where_it_was(bench: Bench) -> None:
    bench.gate.clear()
    audit_id = bench.audits.start(plan(), MODEL)
    with pytest.raises(Occupied, match="is running"):
        bench.audits.start(plan(), MODEL)
    assert bench.audits.stop(audit_id)
    assert bench.state(audit_id) == "stopping"
    bench.gate.set()
    until(lambda: bench.state(audit_id) == "stopped")
    done = len(bench.store.identities(audit_id))
    bench.audits.resume(audit_id)
    until(lambda: bench.state(audit_id) == "done")
    assert len(bench.store.identities(audit_id)) > done


def test_only_who_started_an_audit_can_stop_it(bench: Bench) -> None:
    bench.gate.clear()
    audit_id = bench.audits.start(plan(), MODEL, "visitor:ann")
    for other in ("visitor:bob", NOBODY):
        assert not bench.audits.stop(audit_id, other)
    assert not bench.audits.stop("another", "visitor:ann")
    assert bench.state(audit_id) == "running"
    assert bench.audits.stop(audit_id, "visitor:ann")
    bench.gate.set()
    until(lambda: bench.state(audit_id) == "stopped")
    assert not bench.audits.stop(audit_id, "visitor:ann")
    bench.gate.clear()
    bench.audits.resume(audit_id, "visitor:bob")
    assert not bench.audits.stop(audit_id, "visitor:ann")
    assert bench.audits.stop(audit_id, "visitor:bob")
    bench.gate.set()
    until(lambda: bench.state(audit_id) == "stopped")


def test_pictures_go_first(bench: Bench) -> None:
    release = threading.Event()

    class Slow(FakeEngine):
        def run(self, job: Job, watch: Watch) -> Run:
            release.wait(PATIENCE)
            return super().run(job, watch)

    jobs = JobQueue(Slow())
    audits = Audits(bench.store, PLATFORM, bench.workers, jobs)
    request = Request(prompt="me first", model=MODEL, num_inference_steps=1)
    jobs.submit(Job(id="mine", requests=(request,), configuration=configure({}, PLATFORM)), "ann")
    audit_id = audits.start(plan(1), MODEL)
    time.sleep(0.5)
    assert bench.runs == 0
    release.set()
    until(lambda: (sitting := audits.sitting(audit_id)) is not None and sitting.state == "done")
    audits.close()
    jobs.close()


def test_what_breaks_an_audit_is_one_sentence(bench: Bench) -> None:
    def no_worker(conditions: object) -> FakeEngine:
        raise OSError("no processes left\nat all")

    audits = Audits(bench.store, PLATFORM, no_worker, bench.jobs)  # type: ignore[arg-type]
    audit_id = audits.start(plan(1), MODEL)
    until(lambda: (sitting := audits.sitting(audit_id)) is not None and sitting.state == "failed")
    sitting = audits.sitting(audit_id)
    assert sitting is not None
    assert sitting.reason == "no processes left"
    said = audit_card.status(bench.store.audit(audit_id), sitting, sitting.total, None)
    assert "no processes left" in said
    assert 'data-state="failed"' in said


@pytest.fixture
def result(bench: Bench) -> Audit:
    audit_id = bench.audits.start(plan(), MODEL)
    until(lambda: bench.state(audit_id) == "done")
    found = bench.store.result(audit_id, Audit)
    assert found is not None
    return found


def test_the_table_has_every_row_and_says_what_is_missing(result: Audit) -> None:
    table = scores_card.table(result)
    assert table.count("data-key=") == 4
    assert "needs a GPU &lt;here&gt;" in table
    assert "broken: fresh process" in table
    assert "held on 2 axes, 5 trials" in table
    assert "held on 1 axis, 5 trials" in table
    assert "more time" in table
    assert "placebo" in table
    assert "<svg" in scores_card.plot(result)


def test_a_row_shows_its_pictures_and_its_witness(result: Audit) -> None:
    row = next(score for score in result.scores if "sub-quadratic" in score.key)
    shown = row_card.card(result, row)
    assert "Witness of “fresh process”: broken, 5 trials of 5 gave other bits" in shown
    assert "&lt;b&gt;0&lt;/b&gt;" in shown
    assert "<b>0</b>" not in shown
    assert shown.count('class="sp-compare"') == 2
    assert shown.count("data-first=") == 2 * 5
    assert 'id="kernels"' in shown
    assert "calls 1" in shown
    gone = replace(row, drift=None, determinism={}, effective=None)
    assert "<img" not in row_card.card(result, gone)
    assert "kernels" not in row_card.card(result, gone)


def test_pictures_whose_files_are_gone_leave_their_figures(result: Audit) -> None:
    row = next(score for score in result.scores if "attention=none" in score.key)
    assert row.drift is not None
    first, *others = row.drift.pictures
    lost = replace(first, candidate_picture=None)
    some = replace(row, drift=replace(row.drift, pictures=(lost, *others)))
    assert "1 more have no files" in row_card.card(result, some)
    none = replace(row, drift=replace(row.drift, pictures=(lost,)))
    shown = row_card.card(result, none)
    assert "The picture files are gone" in shown
    assert "SSIM" in shown
    assert "<img" not in shown


def test_the_heat_map_is_a_table_of_words(result: Audit) -> None:
    shown = heat_map(result, scores_card.names(result), "1")
    assert shown.count('scope="row"') == 4
    assert re.findall(r'<th scope="col">([a-z ]+)<', shown) == ["same process", "fresh process"]
    assert re.search(r"<b>held</b> 5 of 5<br>p ≤ 45.1 %", shown)
    assert re.search(r"<b>broken</b> 0 of 5</td>", shown)
    assert shown.count("sp-chosen") == 1
    assert "does not try: after other work, batch size" in shown
    assert "needs a GPU" not in shown
    untried = replace(
        result, scores=tuple(replace(score, determinism={}) for score in result.scores)
    )
    assert heat_map(untried, scores_card.names(result)) == ""


def test_findings_know_this_platform_and_this_model_only(bench: Bench, result: Audit) -> None:
    findings = Findings(bench.store)
    made = next(iter(bench.store.runs(result.audit_id).values()))
    made = replace(made, job=replace(made.job, configuration=plan().baseline))
    asked = made.job.requests[0]
    found = findings.of(made)
    assert found is not None
    shown = badge(found, replace(asked, width=256))
    assert f"audit?run={result.audit_id}" in shown
    assert "128 × 128 px and 2 steps; this one has 256 × 128 px" in shown
    assert "this one has" not in badge(found, asked)
    elsewhere = replace(made.environment, fingerprint="another machine")
    assert findings.of(replace(made, environment=elsewhere)) is None
    other = replace(asked, model=replace(MODEL, digest="0" * 64))
    assert findings.of(replace(made, job=replace(made.job, requests=(other,)))) is None
    unknown = replace(made.job, configuration=configure({"precision": "bf16"}, PLATFORM))
    assert findings.of(replace(made, job=unknown)) is None
    assert "never audited here" in badge(None, asked)
    assert findings.audit("nobody's") is None


def test_a_mark_says_no_more_than_its_row(bench: Bench, result: Audit) -> None:
    def marked(key: str) -> str:
        score = next(s for s in result.scores if key in s.key and not s.placebo)
        return mark(Finding(audit=result, score=score))

    assert "held 5 of 5 · the baseline" in marked(result.baseline)
    assert "held 5 of 5 · rounding" in marked("attention=none")
    assert "broken 0 of 5" in marked("sub-quadratic")
    assert "not shown to repeat" in marked("xformers")
    assert "never audited" in mark(None)


def test_a_hurried_audit_does_not_hide_a_thorough_one(bench: Bench, result: Audit) -> None:
    hurried = bench.audits.start(plan(2), MODEL)
    until(lambda: bench.state(hurried) == "done")
    findings = Findings(bench.store)
    made = next(iter(bench.store.runs(result.audit_id).values()))
    baseline = replace(made, job=replace(made.job, configuration=plan().baseline))
    found = findings.of(baseline)
    assert found is not None
    assert found.audit.audit_id == result.audit_id
    broken = configure({"attention": "sub-quadratic"}, PLATFORM)
    found = findings.of(replace(made, job=replace(made.job, configuration=broken)))
    assert found is not None
    assert found.audit.audit_id == hurried
    judged = findings.judged(PLATFORM, MODEL)
    assert [audit.audit_id for audit in judged] == [result.audit_id, hurried]


def test_an_answer_heeds_every_limit_and_says_what_nobody_tried(
    bench: Bench, result: Audit
) -> None:
    services: Any = SimpleNamespace(
        platform=PLATFORM,
        model=MODEL,
        store=bench.store,
        findings=Findings(bench.store),
        examples=("a red apple",),
    )
    page: Any = SimpleNamespace(_services=services)
    page._moved = lambda *told: RecommendPage._moved(page, *told)
    page._judged = lambda: RecommendPage._judged(page)
    page._answer = lambda wish, audit_id: RecommendPage._answer(page, wish, audit_id)
    page._elsewhere = lambda *told: RecommendPage._elsewhere(page, *told)

    def answered(**wish: Any) -> str:
        return asyncio.run(RecommendPage._answered(page, Wish(**wish), result.audit_id))

    shown = answered(goal="exact")
    assert "Keep the defaults" in shown
    assert "from_pretrained" in shown
    shown = answered(must_hold=("batch-size",))
    assert "did not try batch size on any setting" in shown
    assert "No setting meets all of that" in shown
    assert "Needs 0.10 GB" in answered(memory="0.05")
    assert "number of GB" in answered(memory="much")
    services.platform = replace(PLATFORM, threads=64)
    assert "Out of date: " in answered()


def test_an_answer_names_its_evidence_its_losers_and_its_age(result: Audit) -> None:
    shown = card(result, result.recommendations["exact"], ("Out of date: other threads.",))
    assert "Keep the defaults" in shown
    assert "held in 5 of 5" in shown
    assert "attention=<wbr>none" in shown
    assert "Out of date" in shown
    assert "?use=attention=sdp+precision=" in shown
    nothing = replace(result.recommendations["exact"], configuration=None, key=None)
    assert "No setting meets all of that" in card(result, nothing)
