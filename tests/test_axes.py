"""Every axis from plan to verdict, with fake processes in which one thing leaks, or nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from audit.applicability import not_applicable
from audit.document import document
from audit.execution import run_audit
from audit.judgement import judge
from audit.plan import Plan, PlannedRun
from audit.schedule import expand
from audit.score import AXES, Axis, AxisVerdict
from audit.scoring import score
from core.optimization import Configuration
from core.platforms import Platform
from core.request import Conditions, Request
from core.run import Run
from core.store import Store
from tests.fake_engine import MODEL, PLATFORM, Behaviour, FakeWorker, FakeWorkers, Leak

BASELINE = Configuration((("attention", "sdp"),))
CANDIDATE = Configuration((("attention", "none"),))
EXTRA: tuple[Axis, ...] = (
    "after-other-work",
    "batch-size",
    "batch-position",
    "threads",
    "instruction-set",
)
MACHINE = replace(PLATFORM, instruction_set="AVX512")
PLAN = Plan(
    name="axes",
    baseline=BASELINE,
    candidates=(CANDIDATE,),
    requests=tuple(
        Request(
            prompt=f"a cat {n}", model=MODEL, seed=n, num_inference_steps=2, width=16, height=16
        )
        for n in range(6)
    ),
    axes=dict.fromkeys(EXTRA, (BASELINE.key, CANDIDATE.key)),
    batch_sizes=(2,),
    controls=(),
    timing_blocks=0,
)


class Workers(FakeWorkers):
    """Fake workers on a machine with AVX-512."""

    def __call__(self, conditions: Conditions) -> FakeWorker:
        kernels = conditions.instruction_set or MACHINE.instruction_set
        worker = super().__call__(conditions)
        environment = worker._environment
        worker._environment = lambda: replace(environment(), instruction_set=kernels)  # type: ignore[method-assign]
        return worker


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "seedproof.db") as store:
        yield store


def verdicts(
    store: Store, *leaks: Leak, platform: Platform = MACHINE, plan: Plan = PLAN
) -> dict[Axis, AxisVerdict]:
    """The candidate's, where only these things reach its pictures."""
    workers = Workers(
        pictures=store.pictures,
        behaviours={"attention=none": Behaviour(leaks=frozenset(leaks))},
    )
    result = judge(store, run_audit(store, plan, platform, MODEL, workers))
    (row,) = [score for score in result.scores if score.key == CANDIDATE.key]
    assert row.inherited_from is None
    (baseline,) = [s for s in result.scores if s.key == BASELINE.key and not s.placebo]
    assert {v.verdict for v in baseline.determinism.values()} <= {"held", "not-applicable"}
    (told,) = [s for s in document(result)["scores"] if s["key"] == CANDIDATE.key]
    assert list(told["determinism"]) == list(AXES)
    return dict(row.determinism)


def test_what_does_not_leak_holds_on_every_axis(store: Store) -> None:
    found = verdicts(store)
    assert {(v.verdict, v.trials, v.failures) for v in found.values()} == {("held", 6, 0)}
    assert found["instruction-set"].reason == "against AVX512 kernels: AVX2 in 3, DEFAULT in 3"


@pytest.mark.parametrize(
    ("leak", "axis", "difference"),
    [
        ("other-work", "after-other-work", "a new process and one after 1 other job(s): "),
        ("batch-size", "batch-size", "alone and as picture 1 of "),
        ("batch-position", "batch-position", "picture 1 and picture 4 of 4: "),
        ("threads", "threads", "2 and 1 threads: "),
        ("instruction-set", "instruction-set", "AVX512 and AVX2 kernels: "),
    ],
)
def test_a_leak_breaks_its_axis_with_a_witness_and_no_other_of_the_extra_ones(
    store: Store, leak: Leak, axis: Axis, difference: str
) -> None:
    found = verdicts(store, leak)
    assert (found[axis].verdict, found[axis].trials, found[axis].failures) == ("broken", 6, 6)
    witness = found[axis].witness
    assert witness is not None
    assert witness.difference.startswith(difference)
    assert witness.picture_a != witness.picture_b
    assert {found[other].verdict for other in EXTRA if other != axis} == {"held"}


def test_what_a_machine_cannot_vary_is_not_applicable_with_the_reason(store: Store) -> None:
    found = verdicts(store, platform=replace(MACHINE, cores=1, instruction_set="DEFAULT"))
    for axis, reason in (
        ("threads", "there is one core, and no second thread that could share its work"),
        ("instruction-set", "torch has no smaller kernels here than DEFAULT"),
    ):
        verdict = found[axis]  # type: ignore[index]
        assert (verdict.verdict, verdict.trials, verdict.reason) == ("not-applicable", 0, reason)
    assert found["batch-size"].verdict == "held"


def test_a_gpus_kernels_have_no_instruction_sets() -> None:
    reasons = not_applicable(replace(MACHINE, device="cuda:0"))
    assert set(reasons) == {"instruction-set"}
    assert "on cuda:0" in reasons["instruction-set"]
    assert not_applicable(MACHINE) == {}


def test_an_axis_that_one_row_is_tried_on_says_nothing_about_another(store: Store) -> None:
    found = verdicts(store, plan=replace(PLAN, axes=dict.fromkeys(EXTRA, (BASELINE.key,))))
    for axis in EXTRA:
        assert (found[axis].verdict, found[axis].trials) == ("unverified", 0)
        assert found[axis].reason == "the plan does not try it on this configuration"


@pytest.mark.parametrize("axis", EXTRA)
def test_a_trial_whose_process_did_anothers_work_is_rejected(store: Store, axis: Axis) -> None:
    audit_id = run_audit(store, PLAN, MACHINE, MODEL, Workers(pictures=store.pictures))
    planned, runs = expand(PLAN, MACHINE), store.runs(audit_id)
    mine = next(e for e in planned if (e.role, e.configuration) == (axis, CANDIDATE))
    other = next(e for e in planned if (e.role, e.configuration) == ("determinism", BASELINE))
    there = runs[mine.identity]
    reused = replace(there.environment, process_id=runs[other.identity].environment.process_id)
    runs[mine.identity] = replace(there, environment=reused)
    verdict = candidate(planned, runs)[axis]
    assert (verdict.verdict, verdict.trials) == ("held", 5)
    assert "1 rejected: one process did the work of 2 that had to be separate" in verdict.reason


def test_kernels_that_were_not_limited_test_nothing(store: Store) -> None:
    audit_id = run_audit(store, PLAN, MACHINE, MODEL, Workers(pictures=store.pictures))
    planned, runs = expand(PLAN, MACHINE), store.runs(audit_id)
    for entry in planned:
        if entry.role == "instruction-set" and entry.cluster < 2:
            run = runs[entry.identity]
            runs[entry.identity] = replace(
                run, environment=replace(run.environment, instruction_set="AVX512")
            )
    verdict = candidate(planned, runs)["instruction-set"]
    assert (verdict.verdict, verdict.trials) == ("unverified", 4)
    assert "2 rejected: both its runs computed with AVX512 kernels" in verdict.reason


def candidate(planned: Sequence[PlannedRun], runs: Mapping[str, Run]) -> Mapping[Axis, AxisVerdict]:
    """The candidate's verdicts, where nothing differs and no picture need be opened."""
    result = score(
        PLAN,
        planned,
        runs,
        MACHINE,
        load_picture=lambda path: pytest.fail(f"{path} was opened"),
        audit_id="axes",
        started_at="",
    )
    (row,) = [score for score in result.scores if score.key == CANDIDATE.key]
    return row.determinism
