from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audit.metrics import Rgb
from audit.score import AXES, Audit, AxisVerdict, Score
from core.optimization import Configuration
from core.run import Effective, SlotEffect, Timings
from tests.audit_records import BASELINE, PLATFORM, Records, configuration, request, scene

CHANGED = configuration(token_merging="seeded:0.5")


def full(levels: int = 0, seconds: float = 0.7) -> Records:
    """Baseline, placebo and one candidate, all of which repeat."""
    records = Records()
    records.row()
    records.row(placebo=True)
    records.row(CHANGED, levels=levels, seconds=seconds)
    return records


def row(audit: Audit, chosen: Configuration = BASELINE, placebo: bool = False) -> Score:
    (found,) = [s for s in audit.scores if s.configuration == chosen and s.placebo == placebo]
    return found


def axis(records: Records, name: str, chosen: Configuration = BASELINE) -> AxisVerdict:
    scores = records.audit(*(() if chosen == BASELINE else (chosen,)))
    return row(scores, chosen).determinism[name]  # type: ignore[index]


def test_what_repeats_held_in_as_many_trials_as_there_are_clusters() -> None:
    audit = full().audit(CHANGED)
    assert [(s.key, s.placebo) for s in audit.scores] == [
        (BASELINE.key, False),
        (BASELINE.key, True),
        (CHANGED.key, False),
    ]
    for score in audit.scores:
        for name in ("same-process", "fresh-process"):
            verdict = score.determinism[name]
            assert (verdict.verdict, verdict.trials, verdict.failures) == ("held", 6, 0)
            assert verdict.p_upper95 == pytest.approx(1 - 0.05 ** (1 / 6))
            assert verdict.reason == ""
    assert audit.complete
    assert (audit.runs_done, audit.runs_planned) == (3 * 27, 3 * 27)


def test_more_calls_are_not_more_trials() -> None:
    records = full()
    for cluster in range(6):
        for repeat in (2, 3):
            records.add(
                "determinism", BASELINE, cluster, f"{cluster}/a", [scene(cluster)], repeat=repeat
            )
    assert axis(records, "same-process").trials == 6
    records.disturb(records.find("determinism", cluster=3, repeat=3))
    verdict = axis(records, "same-process")
    assert (verdict.verdict, verdict.trials, verdict.failures) == ("broken", 6, 1)


def test_a_plan_half_done_counts_what_is_there_and_says_how_much() -> None:
    records = full()
    for cluster in (4, 5):
        del records.runs[records.find("determinism", label=f"{cluster}/b").identity]
    audit = records.audit(CHANGED)
    verdict = row(audit).determinism["fresh-process"]
    assert (verdict.verdict, verdict.trials) == ("unverified", 4)
    assert verdict.p_upper95 == pytest.approx(1 - 0.05 ** (1 / 4))
    assert verdict.reason == "4 of the 5 trials it takes; 2 of 6 planned trials not done"
    assert row(audit).determinism["same-process"].verdict == "held"
    assert not audit.complete
    assert any("2 of 81 planned runs are not done" in note for note in audit.notes)


def test_with_no_runs_at_all_everything_is_open_and_nothing_fails() -> None:
    records = full()
    records.runs.clear()
    audit = records.audit(CHANGED)
    for score in audit.scores:
        assert (score.effect, score.drift, score.time_ratio) == (None, None, None)
        assert (score.seconds_median, score.peak_memory_bytes) == (None, None)
        assert {verdict.verdict for verdict in score.determinism.values()} == {"unverified"}
    assert audit.recommendations["exact"].configuration is None
    assert [control.drift for control in audit.controls] == [None, None, None]


def test_a_difference_breaks_the_axis_and_is_shown() -> None:
    records = full()
    first = records.find("determinism", CHANGED, cluster=2, repeat=0, label="a")
    second = records.find("determinism", CHANGED, cluster=2, repeat=1)
    records.disturb(second, levels=20, differs_from=3)
    verdict = axis(records, "same-process", CHANGED)
    assert (verdict.verdict, verdict.trials, verdict.failures) == ("broken", 6, 1)
    witness = verdict.witness
    assert witness is not None
    assert (witness.run_a, witness.run_b) == (first.identity, second.identity)
    assert (witness.prompt, witness.seed) == ("prompt 2", 102)
    assert witness.first_differing_step == 3
    assert witness.picture_a != witness.picture_b
    assert witness.difference.startswith("call 1 and call 2 in one process: at most 20 of 255")
    assert axis(records, "fresh-process", CHANGED).verdict == "held"


def test_other_latents_fail_a_trial_even_where_the_pixels_are_equal() -> None:
    records = full()
    entry = records.find("determinism", cluster=0, repeat=1)
    (picture,) = records.runs[entry.identity].pictures
    records.change(entry, pictures=(replace(picture, latents_sha256="0" * 64),))
    verdict = axis(records, "same-process")
    assert verdict.verdict == "broken"
    assert verdict.witness is not None
    assert "equal pixels from different final latents" in verdict.witness.difference


@pytest.mark.parametrize(("from_step", "expected"), [(0, 0), (1, 1), (4, 4), (None, None)])
def test_the_witness_says_where_the_runs_part(from_step: int | None, expected: int | None) -> None:
    records = full()
    records.disturb(records.find("determinism", label="1/b"), differs_from=from_step)
    witness = axis(records, "fresh-process").witness
    assert witness is not None
    assert witness.first_differing_step == expected
    assert "(forked and forked)" in witness.difference


def test_a_witness_without_its_files_still_stands() -> None:
    records = full()
    records.disturb(records.find("determinism", label="1/b"))
    records.files.clear()
    witness = axis(records, "fresh-process").witness
    assert witness is not None
    assert "not measured" in witness.difference


def test_clusters_that_shared_a_process_are_rejected_and_it_shows() -> None:
    records = full()
    for label in ("4/b", "5/b"):
        records.change(records.find("determinism", label=label), process_id="one for all")
    audit = records.audit(CHANGED)
    verdict = row(audit).determinism["fresh-process"]
    assert (verdict.verdict, verdict.trials) == ("unverified", 4)
    assert "2 rejected: one process did the work of 2" in verdict.reason
    assert any("2 rejected" in note for note in row(audit).notes)
    assert row(audit).determinism["same-process"].trials == 6


def test_a_fresh_process_that_was_the_first_one_is_rejected() -> None:
    records = full()
    for cluster in range(6):
        first = records.find("determinism", label=f"{cluster}/a", repeat=0)
        shared = records.runs[first.identity].environment.process_id
        records.change(records.find("determinism", label=f"{cluster}/b"), process_id=shared)
    verdict = axis(records, "fresh-process")
    assert (verdict.verdict, verdict.trials) == ("unverified", 0)
    assert verdict.p_upper95 is None
    assert "6 rejected" in verdict.reason


def test_a_plan_that_shares_a_process_by_its_own_labels_tests_nothing() -> None:
    records = full()
    for cluster in range(6):
        records.add("threads", BASELINE, cluster, f"{cluster}/a", [scene(cluster)], threads=1)
    verdict = axis(records, "threads")
    assert (verdict.verdict, verdict.trials) == ("unverified", 0)
    assert "6 rejected: its runs shared a process" in verdict.reason


def test_calls_of_one_process_that_ran_in_two_are_rejected() -> None:
    records = full()
    records.change(records.find("determinism", cluster=0, repeat=1), process_id="another")
    verdict = axis(records, "same-process")
    assert (verdict.verdict, verdict.trials) == ("held", 5)
    assert "1 rejected: its calls did not share a process" in verdict.reason


def test_a_worker_that_also_timed_is_not_fresh() -> None:
    records = full()
    timed = records.runs[records.find("timing", block=1).identity].environment.process_id
    records.change(records.find("determinism", label="0/b"), process_id=timed)
    assert axis(records, "fresh-process").trials == 5


def test_a_process_with_work_behind_it_is_not_fresh() -> None:
    records = full()
    records.change(records.find("determinism", label="0/b"), calls_before=1)
    verdict = axis(records, "fresh-process")
    assert verdict.trials == 5
    assert "had done other work" in verdict.reason


def test_a_failing_run_is_no_trial_and_its_reason_is_kept_once() -> None:
    records = full()
    for cluster in (0, 1):
        entry = records.find("determinism", CHANGED, label=f"{cluster}/b")
        records.change(entry, outcome="failed", pictures=(), reason="out of memory")
    audit = records.audit(CHANGED)
    score = row(audit, CHANGED)
    assert score.failures == ("out of memory",)
    assert score.determinism["fresh-process"].trials == 4
    assert audit.complete, "a failed run is done"
    assert any("2 of 81 runs failed" in note for note in audit.notes)


def test_cancelled_runs_are_not_done() -> None:
    records = full()
    records.change(records.find("timing", block=3), outcome="cancelled", pictures=())
    assert not records.audit(CHANGED).complete


def test_without_an_execed_process_the_row_says_so() -> None:
    records = full()
    records.change(records.find("determinism", label="0/b"), process="forked")
    verdict = axis(records, "fresh-process")
    assert verdict.verdict == "held"
    assert verdict.reason == "all processes were forked from one parent; none was exec'd"


def batches(records: Records, leak: bool = False) -> None:
    """For each cluster: first of 2, first of 4 and last of 4; `leak` makes the last one differ."""
    for cluster in range(6):
        asked = request(cluster)
        others = [replace(asked, seed=asked.seed + n) for n in (1, 2, 3)]
        arrays = [scene(900 + cluster * 10 + n) for n in range(3)]
        mine = scene(cluster)
        records.add(
            "batch-size",
            BASELINE,
            cluster,
            f"{cluster}/first of 2",
            [mine, arrays[0]],
            requests=[asked, others[0]],
        )
        records.add(
            "batch-size",
            BASELINE,
            cluster,
            f"{cluster}/first of 4",
            [mine, *arrays],
            requests=[asked, *others],
        )
        records.add(
            "batch-position",
            BASELINE,
            cluster,
            f"{cluster}/last of 4",
            [*arrays, mine + np.uint8(9 if leak else 0)],
            requests=[*others, asked],
        )


def test_batch_axes_compare_the_same_request_at_its_places() -> None:
    records = full()
    batches(records)
    assert axis(records, "batch-size").verdict == "held"
    assert axis(records, "batch-position").verdict == "held"
    assert axis(records, "batch-size").trials == 6, "two sizes are one trial"


def test_the_last_place_is_compared_with_the_first_of_equally_many() -> None:
    records = full()
    batches(records, leak=True)
    verdict = axis(records, "batch-position")
    assert (verdict.verdict, verdict.failures) == ("broken", 6)
    assert verdict.witness is not None
    assert verdict.witness.run_a == records.find("batch-size", label="0/first of 4").identity
    assert verdict.witness.difference.startswith("picture 1 and picture 4 of 4: at most 9 of 255")
    assert axis(records, "batch-size").verdict == "held"


def test_one_batch_size_missing_leaves_the_trial_open_but_a_difference_counts() -> None:
    records = full()
    batches(records)
    del records.runs[records.find("batch-size", label="0/first of 4").identity]
    assert axis(records, "batch-size").trials == 5
    records.disturb(records.find("batch-size", label="0/first of 2"))
    verdict = axis(records, "batch-size")
    assert (verdict.verdict, verdict.trials, verdict.failures) == ("broken", 6, 1)


def test_threads_that_did_not_change_hold_only_because_they_are_pinned() -> None:
    records = full()
    for cluster in range(6):
        label = f"{cluster}/1 thread"
        records.add("threads", BASELINE, cluster, label, [scene(cluster)], threads=1)
    assert axis(records, "threads") == replace(axis(records, "threads"), verdict="held", reason="")
    for cluster in range(6):
        records.change(records.find("threads", cluster=cluster), threads=2)
    verdict = axis(records, "threads")
    assert verdict.verdict == "held"
    assert verdict.reason == "pinned: all runs used 2 thread(s)"


def test_threads_that_a_setting_pins_hold_because_of_it() -> None:
    pinned = configuration(threads="pinned:1")
    records = Records()
    records.row()
    records.row(pinned)
    for cluster in range(6):
        label = f"{cluster}/1 thread"
        records.add("threads", pinned, cluster, label, [scene(cluster)], threads=1)
    verdict = axis(records, "threads", pinned)
    assert (verdict.verdict, verdict.reason) == ("held", "pinned by threads=pinned:1")


def test_other_work_must_have_been_done() -> None:
    records = full()
    for cluster in range(6):
        label = f"{cluster}/after other work"
        strange = replace(request(cluster), seed=1)
        records.add("other-work", BASELINE, cluster, label, [scene(77)], requests=[strange])
        records.add("after-other-work", BASELINE, cluster, label, [scene(cluster)], calls_before=1)
    assert axis(records, "after-other-work").verdict == "held"
    records.change(records.find("after-other-work", cluster=0), calls_before=0)
    verdict = axis(records, "after-other-work")
    assert verdict.trials == 5
    assert "the process had done no other work" in verdict.reason
    assert row(records.audit()).runs == 27 - 1 + 6 + 1, "other work is never scored"


def test_axes_outside_the_plan_are_unverified_with_a_reason() -> None:
    determinism = row(full().audit(CHANGED), CHANGED).determinism
    assert set(determinism) == set(AXES)
    for name in AXES[1:2] + AXES[3:]:
        verdict = determinism[name]
        assert (verdict.verdict, verdict.trials, verdict.p_upper95) == ("unverified", 0, None)
        assert verdict.reason == "the plan does not try it on this configuration"
    assert row(full().audit(CHANGED), CHANGED).inherited_from is None


def test_what_the_platform_cannot_do_is_a_row_without_numbers() -> None:
    missing = configuration(attention="xformers")
    audit = full().audit(CHANGED, missing, skipped={missing.key: "needs a GPU"})
    score = row(audit, missing)
    assert (score.available, score.why_not, score.runs) == (False, "needs a GPU", 0)
    assert (score.effect, score.drift, score.time_ratio) == (None, None, None)
    assert all(not verdict.trials for verdict in score.determinism.values())


def test_drift_is_against_the_baselines_first_picture_of_the_same_request() -> None:
    audit = full(levels=1).audit(CHANGED)
    drift = row(audit, CHANGED).drift
    assert drift is not None
    assert (drift.verdict, drift.max_abs) == ("rounding", 1)
    assert [c.seed for c in drift.pictures] == [100, 101, 102, 103, 104, 105]
    assert drift.pictures[0].baseline_picture != drift.pictures[0].candidate_picture
    exact = row(audit).drift
    assert exact is not None
    assert (exact.verdict, exact.ssim_min, exact.phash_max) == ("bit-exact", 1.0, 0)


def test_of_pictures_that_do_not_repeat_the_worst_governs() -> None:
    records = full(levels=1)
    records.disturb(records.find("determinism", CHANGED, cluster=4, repeat=1), levels=30)
    drift = row(records.audit(CHANGED), CHANGED).drift
    assert drift is not None
    assert len(drift.pictures) == 7
    assert drift.max_abs == 31
    assert drift.verdict != "rounding"


def test_a_baseline_that_does_not_repeat_drifts_from_itself() -> None:
    records = full()
    assert not any("does not agree with itself" in n for n in records.audit(CHANGED).notes)
    records.disturb(records.find("determinism", label="2/b"))
    audit = records.audit(CHANGED)
    drift = row(audit).drift
    assert drift is not None
    assert drift.verdict != "bit-exact"
    assert any("does not agree with itself" in note for note in audit.notes)
    assert audit.recommendations["fastest"].key == CHANGED.key, "it repeats; the baseline does not"


def test_a_file_that_is_not_the_recorded_picture_is_not_compared() -> None:
    records = full(levels=1)
    entry = records.find("determinism", CHANGED, cluster=3, repeat=0, label="a")
    path = records.runs[entry.identity].pictures[0].path or Path()
    records.files[path] = scene(50)
    score = row(records.audit(CHANGED), CHANGED)
    assert score.drift is not None
    assert len(score.drift.pictures) == 5
    assert any("seed 103 not compared" in note and "recorded" in note for note in score.notes)


def test_pictures_are_only_read_where_digests_differ() -> None:
    read: list[Path] = []
    records = full(levels=0)

    def load(path: Path) -> Rgb:
        read.append(path)
        return scene(0)

    records.load = load  # type: ignore[method-assign]
    records.audit(CHANGED)
    assert read == []


def controlled(nudge: int, levels: int) -> Records:
    records = full(levels=levels)
    for cluster in range(6):
        array = scene(cluster) + np.uint8(nudge)
        records.add("ulp-nudge", BASELINE, cluster, f"{cluster}/ulp-nudge", [array])
        other = replace(request(cluster), seed=request(cluster).seed + 1000)
        records.add(
            "other-seed",
            BASELINE,
            cluster,
            f"{cluster}/other-seed",
            [scene(500 + cluster)],
            requests=[other],
        )
    return records


def test_controls_are_compared_like_candidates_and_are_no_part_of_the_baseline() -> None:
    audit = controlled(nudge=2, levels=1).audit(CHANGED)
    placebo, nudge, other = audit.controls
    assert placebo.drift is not None
    assert nudge.drift is not None
    assert other.drift is not None
    assert placebo.drift.verdict == "bit-exact"
    assert placebo.time_ratio is not None
    assert nudge.drift.max_abs == 2
    assert other.drift.verdict == "different"
    assert other.drift.pictures[0].seed == 1100
    assert row(audit).runs == 27 - 1 + 1
    assert row(audit).drift == row(full().audit(CHANGED)).drift


def test_drift_within_the_nudge_is_not_attributable() -> None:
    within = row(controlled(nudge=3, levels=3).audit(CHANGED), CHANGED).drift
    beyond = row(controlled(nudge=3, levels=4).audit(CHANGED), CHANGED).drift
    assert within is not None
    assert beyond is not None
    assert within.not_attributable
    assert not beyond.not_attributable


def test_time_is_paired_by_block_without_the_warm_up() -> None:
    records = full(seconds=0.7)
    for entry in records.planned:
        if entry.role == "timing" and entry.block == 3:
            run = records.runs[entry.identity]
            slow = replace(run.timings, denoise=run.timings.denoise * 40, decode=0.0)
            records.change(entry, timings=slow)
    score = row(records.audit(CHANGED), CHANGED)
    assert score.time_ratio is not None
    assert score.time_ratio.pairs == 8
    assert score.time_ratio.median == pytest.approx(0.7, rel=0.02)
    assert score.time_ratio.ci95[1] < 0.75, "block 3 was slow for both"
    assert score.seconds_median == pytest.approx(0.7, rel=0.02)


def test_the_baseline_is_the_unit_and_the_placebo_is_not() -> None:
    audit = full().audit(CHANGED)
    unit, placebo = row(audit).time_ratio, row(audit, placebo=True).time_ratio
    assert unit is not None
    assert placebo is not None
    assert (unit.median, unit.ci95) == (1.0, (1.0, 1.0))
    assert placebo.median == pytest.approx(1.0, abs=0.01)


def test_pairs_need_both_runs() -> None:
    records = full()
    del records.runs[records.find("timing", block=2).identity]
    records.change(records.find("timing", CHANGED, block=5), outcome="failed", pictures=())
    score = row(records.audit(CHANGED), CHANGED)
    assert score.time_ratio is not None
    assert score.time_ratio.pairs == 6


def test_determinism_runs_are_never_timed() -> None:
    records = Records()
    records.row(blocks=0)
    score = row(records.audit())
    assert (score.time_ratio, score.seconds_median) == (None, None)
    assert score.peak_memory_bytes is None


def test_time_counts_pictures_and_leaves_out_load_encode_and_save() -> None:
    records = Records(clusters=1)
    asked = [request(0), replace(request(0), seed=9)]
    records.add("timing", BASELINE, 0, "timing 0.0", [scene(0), scene(1)], requests=asked, block=1)
    records.change(
        records.find("timing"),
        timings=Timings(load=100, encode=50, denoise=3.0, decode=1.0, save=70),
    )
    assert row(records.audit()).seconds_median == pytest.approx(2.0)


def test_memory_is_the_highest_of_the_timed_runs() -> None:
    records = full()
    records.change(
        records.find("timing", block=4),
        memory=replace(
            records.runs[records.find("timing", block=4).identity].memory, peak_bytes=3 * 10**9
        ),
    )
    score = row(records.audit(CHANGED))
    assert (score.peak_memory_bytes, score.memory_kind) == (3 * 10**9, "made up")


def test_noisy_timings_are_called_noisy() -> None:
    records = full()
    for block in range(1, 9):
        entry = records.find("timing", CHANGED, block=block)
        timings = replace(records.runs[entry.identity].timings, denoise=0.5 + 0.1 * block)
        records.change(entry, timings=timings)
    audit = records.audit(CHANGED)
    assert any("noisy timings" in note for note in row(audit, CHANGED).notes)
    assert not any("noisy" in note for note in row(audit).notes)


def test_timed_pictures_are_checked_against_the_audited_ones() -> None:
    records = full()
    records.disturb(records.find("timing", CHANGED, block=3))
    audit = records.audit(CHANGED)
    assert row(audit, CHANGED).timed_other_pictures == 1
    assert row(audit).timed_other_pictures == 0
    assert any("1 timed picture" in note for note in row(audit, CHANGED).notes)
    assert audit.recommendations["exact"].key == BASELINE.key


def effect(records: Records, cluster: int, *effects: SlotEffect) -> None:
    entry = records.find("determinism", CHANGED, cluster=cluster, repeat=1)
    records.change(entry, effective=Effective(slots=effects))


def test_the_effect_is_the_worst_of_all_runs_and_disagreement_is_said() -> None:
    records = full()
    assert row(records.audit(CHANGED), CHANGED).effect == "applied"
    effect(
        records,
        1,
        SlotEffect(slot="attention", requested="sdp", effect="applied"),
        SlotEffect(slot="token-merging", requested="seeded:0.5", effect="none", reason="too small"),
    )
    score = row(records.audit(CHANGED), CHANGED)
    assert score.effect == "none"
    assert score.effective is not None
    slot = score.effective.slot("token-merging")
    assert slot is not None
    assert slot.reason == "too small"
    assert score.notes == ("runs disagree on what token-merging=seeded:0.5 did: applied and none",)


def test_falling_back_is_worse_than_no_effect() -> None:
    records = full()
    asked = {"slot": "token-merging", "requested": "seeded:0.5", "reason": "why"}
    effect(records, 1, SlotEffect(effect="none", **asked))  # type: ignore[arg-type]
    effect(records, 2, SlotEffect(effect="fell-back", **asked))  # type: ignore[arg-type]
    assert row(records.audit(CHANGED), CHANGED).effect == "fell-back"


def test_the_same_records_in_any_order_give_the_same_audit() -> None:
    records = controlled(nudge=2, levels=3)
    once = records.audit(CHANGED)
    records.planned.reverse()
    records.runs = dict(reversed(records.runs.items()))
    assert records.audit(CHANGED) == once


def test_runs_from_another_platform_are_pointed_out() -> None:
    records = full()
    records.change(records.find("timing", block=1), fingerprint="elsewhere")
    notes = records.audit(CHANGED).notes
    assert any("1 of 81 runs were made on another platform" in note for note in notes)


def test_the_audit_recommends_from_its_own_scores() -> None:
    audit = full(levels=1, seconds=0.7).audit(CHANGED)
    assert audit.recommendations["exact"].key == BASELINE.key
    assert audit.recommendations["same-look"].key == CHANGED.key
    assert audit.recommendations["fastest"].platform_fingerprint == PLATFORM.fingerprint
    assert audit.recommendations["fastest"].audit_id == "audit-1"
