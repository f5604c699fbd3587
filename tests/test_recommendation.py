from dataclasses import replace

import pytest

from audit.evidence import evidence
from audit.recommendation import recommend, stale
from audit.score import (
    Axis,
    AxisVerdict,
    DriftVerdict,
    Goal,
    Recommendation,
    Score,
    TimeRatio,
    Witness,
)
from core.run import Effective, SlotEffect
from tests.audit_records import BASELINE, PLATFORM, configuration, made_score

NEAR = configuration(precision="bf16")
FAR = configuration(token_merging="seeded:0.5")
BOTH = configuration(precision="bf16", token_merging="seeded:0.5")


def ask(
    goal: Goal,
    *rows: Score,
    max_memory_bytes: int | None = None,
    farthest: DriftVerdict | None = None,
    must_hold: tuple[Axis, ...] = (),
) -> Recommendation:
    return recommend(
        rows,
        goal,
        baseline=BASELINE.key,
        max_memory_bytes=max_memory_bytes,
        farthest=farthest,
        must_hold=must_hold,
        platform_fingerprint="here",
        audit_id="audit-1",
    )


def why(answer: Recommendation, row: Score) -> str:
    (reason,) = [loser.reason for loser in answer.losers if loser.key == row.key]
    return reason


def three() -> tuple[Score, Score, Score]:
    return (
        made_score(),
        made_score(NEAR, verdict="fine-detail", ratio=0.8),
        made_score(FAR, verdict="visibly-changed", ratio=0.6),
    )


@pytest.mark.parametrize(
    ("goal", "winner"), [("exact", BASELINE), ("same-look", NEAR), ("fastest", FAR)]
)
def test_each_goal_takes_the_fastest_it_allows(goal: Goal, winner: object) -> None:
    answer = ask(goal, *three())
    assert answer.configuration == winner
    assert answer.ties == ()
    assert (answer.goal, answer.platform_fingerprint, answer.audit_id) == (goal, "here", "audit-1")
    assert len(answer.losers) == 2


def test_losers_say_why_in_the_order_of_the_rows() -> None:
    baseline, near, far = three()
    answer = ask("same-look", baseline, near, far)
    assert [loser.key for loser in answer.losers] == [baseline.key, far.key]
    assert why(answer, baseline).startswith("Slower: 1.00 ×")
    assert why(answer, far) == (
        "Too far from the baseline: its worst picture is visibly-changed, not fine-detail."
    )


def test_a_faster_bit_exact_row_beats_the_baseline_for_exact() -> None:
    answer = ask("exact", made_score(), made_score(NEAR, ratio=0.9))
    assert answer.configuration == NEAR
    assert answer.reason == "The fastest of 2 that qualify: 0.90 × the baseline's time per picture."


def test_a_limit_of_ones_own_replaces_the_goals() -> None:
    rows = three()
    assert ask("exact", *rows, farthest="fine-detail").configuration == NEAR
    strict = ask("fastest", *rows, farthest="rounding")
    assert strict.configuration == BASELINE
    assert why(strict, rows[1]).endswith("is fine-detail, not rounding.")


def test_what_must_hold_besides_has_to_have_held() -> None:
    held, broken = (
        AxisVerdict(verdict="held", trials=5),
        AxisVerdict(verdict="broken", trials=5, failures=2),
    )
    baseline, near, far = three()
    baseline = replace(baseline, determinism={**baseline.determinism, "batch-size": held})
    far = replace(far, determinism={**far.determinism, "batch-size": broken})
    answer = ask("fastest", baseline, near, far, must_hold=("batch-size",))
    assert answer.configuration == BASELINE
    assert why(answer, near) == "Not shown to repeat: batch-size is unverified."
    assert why(answer, far) == "Does not repeat: batch-size is broken, 2 of 5 trials differed."
    assert ask("fastest", baseline, near, far).configuration == FAR


def test_different_never_qualifies() -> None:
    row = made_score(FAR, verdict="different", ratio=0.1)
    assert ask("fastest", made_score(), row).configuration == BASELINE


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"available": False, "why_not": "needs a GPU"}, "Not available here: needs a GPU."),
        ({"effect": "none"}, "had no effect"),
        ({"effect": "fell-back"}, "fell back"),
        ({"effect": None, "failures": ("out of memory",)}, "No run of it succeeded: out of memory"),
        ({"drift": None}, "not compared"),
        ({"time_ratio": None}, "speed was not measured"),
        ({"timed_other_pictures": 2}, "2 timed pictures differed from the audited ones"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_every_requirement_excludes_with_its_reason(change: dict[str, object], reason: str) -> None:
    row = replace(made_score(NEAR, ratio=0.5), **change)  # type: ignore[arg-type]
    answer = ask("fastest", made_score(), row)
    assert answer.configuration == BASELINE
    assert reason in why(answer, row)


@pytest.mark.parametrize("axis", ["same-process", "fresh-process"])
@pytest.mark.parametrize("word", ["broken", "unverified", "not-applicable"])
def test_both_axes_must_have_held(axis: str, word: str) -> None:
    good = made_score(NEAR, ratio=0.5)
    verdict = AxisVerdict(verdict=word, trials=4, failures=2 if word == "broken" else 0)  # type: ignore[arg-type]
    row = replace(good, determinism={**good.determinism, axis: verdict})  # type: ignore[dict-item]
    answer = ask("fastest", made_score(), row)
    assert answer.configuration == BASELINE
    assert f"{axis} is {word}" in why(answer, row)
    missing = replace(good, determinism={k: v for k, v in good.determinism.items() if k != axis})
    assert f"{axis} is unverified" in why(ask("fastest", made_score(), missing), missing)


def test_another_broken_axis_is_said_and_does_not_exclude() -> None:
    row = made_score(NEAR, ratio=0.5, broken="threads")
    answer = ask("fastest", made_score(), row)
    assert answer.configuration == NEAR
    assert "threads: broken, 2 of 6 trials gave other bits." in answer.evidence


def test_a_broken_axis_names_its_witness_and_an_inapplicable_one_its_reason() -> None:
    seen = Witness(
        run_a="a",
        run_b="b",
        prompt="a cat",
        seed=1,
        picture_a=None,
        picture_b=None,
        first_differing_step=1,
        difference="AVX512 and AVX2 kernels: at most 1 of 255 levels apart, SSIM 0.9999",
    )
    good = made_score(NEAR, ratio=0.5)
    broken = AxisVerdict(verdict="broken", trials=5, failures=5, witness=seen)
    alone = AxisVerdict(verdict="not-applicable", reason="there is one core")
    axes = {**good.determinism, "instruction-set": broken, "threads": alone}
    told = list(evidence(replace(good, determinism=axes)))
    assert (
        "instruction-set: broken, 5 of 5 trials gave other bits; AVX512 and AVX2 kernels: "
        "at most 1 of 255 levels apart, SSIM 0.9999."
    ) in told
    assert "threads: not applicable; there is one core." in told
    assert not any("Not verified" in line and "threads" in line for line in told)


def test_what_was_asked_for_and_ignored_is_named() -> None:
    ignored = SlotEffect(
        slot="token-merging", requested="seeded:0.5", effect="none", reason="too few tokens."
    )
    row = replace(made_score(FAR, ratio=0.5), effect="none", effective=Effective(slots=(ignored,)))
    reason = why(ask("fastest", made_score(), row), row)
    assert reason == "token-merging=seeded:0.5 had no effect: too few tokens."


def test_a_memory_limit_binds_the_baseline_too() -> None:
    small = made_score(NEAR, ratio=1.4, peak_memory_bytes=5 * 10**8)
    answer = ask("exact", made_score(), small, max_memory_bytes=7 * 10**8)
    assert answer.configuration == NEAR
    assert why(answer, made_score()) == "Needs 1.00 GB, more than the 0.70 GB allowed."
    unknown = replace(small, peak_memory_bytes=None)
    assert ask("exact", made_score(), unknown, max_memory_bytes=7 * 10**8).configuration is None


def test_without_a_limit_unknown_memory_is_no_obstacle() -> None:
    row = made_score(NEAR, ratio=0.5, peak_memory_bytes=None)
    assert ask("exact", made_score(), row).configuration == NEAR


def test_a_tie_with_the_baseline_goes_to_the_baseline() -> None:
    row = made_score(NEAR, ratio=0.985, width=0.001)
    answer = ask("exact", made_score(), row)
    assert answer.configuration == BASELINE
    assert answer.ties == (NEAR.key,)
    assert "1 other configuration would do, none measurably faster" in answer.reason
    assert why(answer, row).startswith("Tied in time, 0.98 ×")


def test_a_tie_with_the_fastest_does_not_recommend_what_is_no_faster_than_the_baseline() -> None:
    """Intervals of 0.81 to 0.95 and of 0.91 to 1.07 overlap, and the second holds 1 as well."""
    fast = replace(
        made_score(NEAR, verdict="visibly-changed"),
        time_ratio=TimeRatio(median=0.88, ci95=(0.81, 0.95), pairs=10),
    )
    idle = replace(
        made_score(FAR, verdict="fine-detail"),
        time_ratio=TimeRatio(median=1.01, ci95=(0.91, 1.07), pairs=10),
    )
    answer = ask("fastest", made_score(), fast, idle)
    assert answer.configuration == NEAR
    assert answer.ties == ()
    assert why(answer, idle).startswith("Not measurably faster than the baseline: ")


def test_a_tie_goes_to_the_fewest_changes() -> None:
    both = made_score(BOTH, verdict="rounding", ratio=0.590, width=0.001)
    one = made_score(FAR, verdict="fine-detail", ratio=0.598, width=0.001)
    answer = ask("same-look", made_score(), both, one)
    assert answer.configuration == FAR
    assert answer.ties == (BOTH.key,)
    assert "Tied for fastest with 1 other" in answer.reason


def test_of_equally_few_changes_the_closer_picture_wins_the_tie() -> None:
    near = made_score(NEAR, verdict="rounding", ratio=0.602, width=0.001)
    far = made_score(FAR, verdict="fine-detail", ratio=0.598, width=0.001)
    assert ask("same-look", made_score(), far, near).configuration == NEAR


def test_the_placebo_widens_what_counts_as_a_tie_and_is_never_recommended() -> None:
    row = made_score(NEAR, ratio=0.9)
    calm = replace(
        made_score(), placebo=True, time_ratio=TimeRatio(median=1.0, ci95=(0.99, 1.01), pairs=12)
    )
    wild = replace(calm, time_ratio=TimeRatio(median=0.5, ci95=(0.45, 0.6), pairs=12))
    assert ask("exact", made_score(), calm, row).configuration == NEAR
    answer = ask("exact", made_score(), wild, row)
    assert answer.configuration == BASELINE
    assert [loser.key for loser in answer.losers] == [NEAR.key]


def test_too_few_pairs_claim_no_speed() -> None:
    row = made_score(NEAR, ratio=0.5, pairs=5)
    assert ask("exact", made_score(), row).configuration == BASELINE
    assert (
        ask(
            "exact",
            made_score(),
            replace(row, time_ratio=TimeRatio(median=0.5, ci95=(0.49, 0.51), pairs=6)),
        ).configuration
        == NEAR
    )


def test_a_baseline_that_was_not_timed_is_still_the_unit() -> None:
    baseline = replace(made_score(), time_ratio=None, seconds_median=None)
    assert ask("exact", baseline).configuration == BASELINE
    assert ask("exact", baseline, made_score(NEAR, ratio=0.5)).configuration == NEAR


def test_the_baseline_needs_no_effect_of_its_own() -> None:
    assert ask("exact", replace(made_score(), effect="none")).configuration == BASELINE


def test_where_nothing_qualifies_there_is_no_answer_and_the_reason_is_the_baselines() -> None:
    answer = ask("exact", made_score(word="broken"), made_score(NEAR, word="unverified"))
    assert (answer.configuration, answer.key, answer.evidence) == (None, None, ())
    assert answer.reason.startswith("Nothing qualifies. The baseline itself: Does not repeat")
    assert len(answer.losers) == 2
    assert ask("exact").reason == "Nothing to recommend against: the baseline was not audited."


def test_evidence_has_figures_and_counts() -> None:
    row = made_score(NEAR, verdict="fine-detail", ratio=0.8)
    told = " ".join(ask("same-look", made_score(), row).evidence)
    for figure in (
        "same-process and fresh-process: held in 6 of 6 independent trials each",
        "fails at most 39.3 % of the time (95 %)",
        "0.9600",
        "0.8500",
        "2.1",
        "0.80 × (95 %: 0.80 to 0.80, 12 pairs)",
        "1.00 GB (made up)",
        "Not verified: after-other-work, batch-size, batch-position, threads, instruction-set",
    ):
        assert figure in told


def test_drift_within_the_noise_floor_is_said() -> None:
    row = made_score(NEAR, verdict="fine-detail", ratio=0.8)
    assert row.drift is not None
    row = replace(row, drift=replace(row.drift, not_attributable=True))
    assert any("one ULP" in sentence for sentence in ask("same-look", made_score(), row).evidence)


def test_the_order_of_rows_does_not_matter() -> None:
    rows = three()
    assert ask("fastest", *rows).key == ask("fastest", *reversed(rows)).key


def test_a_recommendation_is_stale_on_another_platform() -> None:
    answer = replace(ask("exact", made_score()), platform_fingerprint=PLATFORM.fingerprint)
    assert stale(answer, PLATFORM) is None
    newer = replace(PLATFORM, versions={"torch": "2.14.0"})
    told = stale(answer, newer)
    assert told is not None
    assert told.startswith("Stale: measured on platform")
    assert newer.fingerprint in told


def test_a_row_whose_runs_failed_says_why_they_did() -> None:
    given_up = made_score(
        NEAR, word="unverified", trials=1, failures=("Given up: 16 times slower.",)
    )
    answer = ask("fastest", made_score(), given_up)
    assert why(answer, given_up) == (
        "Not shown to repeat, as its runs failed: Given up: 16 times slower."
    )
