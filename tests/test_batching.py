"""How pictures are split into batches, by evidence, by permission and by memory."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audit.batching import MOST, BatchEvidence, batch_evidence, batching
from audit.score import Audit, AxisVerdict, Determinism
from core.store import Store
from tests.audit_records import BASELINE, MODEL, PLATFORM, Records, made_score, request
from webapp.batch_choice import evidence, room
from webapp.cli import main
from webapp.findings import Findings

ASKED = replace(request(0), width=128, height=128)


def verdict(word: Determinism) -> AxisVerdict:
    failures = {"broken": 6, "held": 0}.get(word, 0)
    return AxisVerdict(verdict=word, trials=6, failures=failures, p_upper95=0.393)


def found(size: Determinism = "held", position: Determinism | None = "held") -> BatchEvidence:
    return BatchEvidence(
        audit_id="a1",
        size=verdict(size),
        position=None if position is None else verdict(position),
        tried=(2, 4),
        width=128,
        height=128,
    )


def up_to(most: int) -> Callable[[int], bool]:
    return lambda size: size <= most


@pytest.mark.parametrize(
    ("count", "sizes"), [(2, (2,)), (3, (2, 1)), (4, (4,)), (7, (4, 2, 1)), (8, (4, 4))]
)
def test_where_an_audit_found_pixels_unchanged_only_the_sizes_it_tried_are_used(
    count: int, sizes: tuple[int, ...]
) -> None:
    made = batching(count, ASKED, found(), up_to(100))
    assert made.sizes == sizes
    assert made.reason.startswith(f"{max(sizes)} at a time: audit a1 found here that batches of 2")
    assert "6 of 6 trials agree, fails ≤ 39.3 % of the time" in made.reason


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (None, "no audit here has tried batches"),
        (found("broken"), "a batch changes the pixels (audit a1: 6 of 6 trials differed)"),
        (found("held", "broken"), "the place in a batch changes the pixels"),
        (found("unverified"), "did not show that a batch leaves"),
        (found("held", None), "did not show that every place"),
        (replace(found(), width=512), "tried batches at 512 × 128 px only"),
    ],
)
def test_everything_else_is_one_at_a_time_with_the_reason(
    what: BatchEvidence | None, reason: str
) -> None:
    made = batching(3, ASKED, what, up_to(100))
    assert made.sizes == (1, 1, 1)
    assert made.reason.startswith("One at a time: ")
    assert reason in made.reason
    allowed = batching(3, ASKED, what, up_to(100), allowed=True)
    assert allowed.sizes == (3,)
    assert allowed.reason.startswith("3 at a time: as you allowed, although ")
    assert reason in allowed.reason


def test_memory_limits_both_what_is_shown_and_what_is_allowed() -> None:
    made = batching(7, ASKED, found(), up_to(2))
    assert made.sizes == (2, 2, 2, 1)
    assert made.reason.endswith("A larger batch would take more memory than there is.")
    made = batching(7, ASKED, None, up_to(3), allowed=True)
    assert made.sizes == (3, 3, 1)
    assert "more memory" in made.reason
    made = batching(2, ASKED, found(), up_to(1))
    assert made.sizes == (1, 1)
    assert made.reason == "One at a time: a batch would take more memory than there is."


def test_what_was_never_measured_is_not_risked() -> None:
    made = batching(2, ASKED, found(), lambda size: None, allowed=True)
    assert made.sizes == (1, 1)
    assert "was not measured here yet" in made.reason


def test_one_picture_needs_no_reason_and_twenty_are_no_batch() -> None:
    assert batching(1, ASKED, None, up_to(1)).reason == ""
    assert max(batching(20, ASKED, None, up_to(100), allowed=True).sizes) == MOST


def test_splitting_keeps_every_picture_in_its_order() -> None:
    asked = [replace(ASKED, seed=seed) for seed in range(7)]
    batches = batching(7, ASKED, found(), up_to(4)).split(asked)
    assert [len(batch) for batch in batches] == [4, 2, 1]
    assert [one for batch in batches for one in batch] == asked
    with pytest.raises(ValueError, match="do not fill"):
        batching(6, ASKED, found(), up_to(4)).split(asked)


def audited(word: Determinism) -> Audit:
    """An audit by hand whose baseline row has this verdict on both axes of batches."""
    records = Records()
    records.row()
    axes = {"batch-size": verdict(word), "batch-position": verdict(word)}
    return replace(
        records.audit(),
        complete=True,
        scores=(made_score(BASELINE, determinism=axes),),
        width=128,
        height=128,
    )


def test_evidence_is_of_the_row_and_of_the_sizes_that_its_plan_tried() -> None:
    audit, plan = audited("held"), Records().plan(batch_sizes=(2, 3))
    evidence = batch_evidence(audit, plan, BASELINE.key)
    assert evidence is not None
    assert evidence.tried == (2, 3, 4)
    assert batch_evidence(audit, plan, "other") is None
    untried = replace(audit, scores=(made_score(BASELINE),))
    assert batch_evidence(untried, plan, BASELINE.key) is None


def test_the_newest_complete_audit_of_this_platform_and_model_decides(tmp_path: Path) -> None:
    with Store(tmp_path / "seedproof.db") as store:

        def add(audit: Audit) -> None:
            audit_id = store.add_audit(
                "by hand", plan=Records().plan(), platform=PLATFORM, model=MODEL
            )
            store.save_result(audit_id, replace(audit, audit_id=audit_id))
            store.finish_audit(audit_id)

        def verdict_now() -> str | None:
            here = evidence(PLATFORM, MODEL.digest, BASELINE.key, store, Findings(store))
            return None if here is None else here.size.verdict

        assert verdict_now() is None
        add(audited("broken"))
        assert verdict_now() == "broken"
        add(audited("held"))
        add(replace(audited("broken"), platform=replace(PLATFORM, threads=1)))
        add(replace(audited("broken"), model_digest="another"))
        assert verdict_now() == "held"


def test_room_is_what_is_free_and_what_the_worker_holds_already() -> None:
    import os

    free, more = room(PLATFORM), room(PLATFORM, os.getpid())
    assert free is not None
    assert more is not None
    assert free > 0
    assert more > 0.8 * free
    assert room(PLATFORM, 2**22 - 1) is not None


def test_the_terminal_batches_where_allowed_and_a_receipt_of_it_verifies(
    tiny_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = ["--db", str(tmp_path / "s.db"), "--model", str(tiny_model_path)]

    def generate(batch: str) -> tuple[str, dict[str, object]]:
        small = ["--num-inference-steps", "1", "--batch-count", "2", "--seed", "5", "--json"]
        with pytest.raises(SystemExit) as ended:
            main(["generate", "x", "--batch", batch, *small, *usual])
        assert ended.value.code in (0, None)
        said = capsys.readouterr()
        return said.err, json.loads(said.out)

    said, _ = generate("auto")
    assert "One at a time: no audit here has tried batches with these settings." in said
    said, made = generate("any")
    assert "2 at a time: as you allowed, although no audit here" in said
    assert made["notes"] == [
        "2 at a time: as you allowed, although no audit here has tried batches with these settings."
    ]
    images = made["images"]
    assert [one["seed"] for one in images] == [5, 6]  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as ended:
        main(["verify", images[1]["path"], *usual[2:]])  # type: ignore[index]
    assert ended.value.code in (0, None), capsys.readouterr()
    with Store(tmp_path / "s.db") as store:
        assert [len(run.pictures) for run in store.generations()] == [2, 1, 1]


def test_another_word_for_batch_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", "x", "--batch", "4"])
    assert ended.value.code == 2
    assert "--batch is auto or any" in capsys.readouterr().err
