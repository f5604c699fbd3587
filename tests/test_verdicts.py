from collections.abc import Mapping

import numpy as np
import pytest

from audit.drift import drift, worst_first
from audit.metrics import METRICS, measure
from audit.score import DRIFT_VERDICTS, Comparison, Drift, DriftVerdict
from audit.verdicts import (
    DETERMINISM_MEANINGS,
    GATES,
    determinism,
    drift_verdict,
    meaning,
    not_attributable,
    rank,
    worst,
)
from tests.audit_records import scene

SAME = {metric.name: metric.identical for metric in METRICS}
FAR = {
    "ssim": 0.0,
    "ssim_worst_tile": -1.0,
    "delta_e_mean": 90.0,
    "delta_e_worst_tile": 100.0,
    "phash": 32.0,
    "max_abs": 255.0,
}


def compared(
    values: Mapping[str, float] | None = None, verdict: DriftVerdict = "fine-detail"
) -> Comparison:
    figures = {**SAME, **(values or {})}
    return Comparison(
        prompt="p",
        seed=1,
        baseline_picture=None,
        candidate_picture=None,
        verdict=verdict,
        ssim=figures["ssim"],
        ssim_worst_tile=figures["ssim_worst_tile"],
        delta_e_mean=figures["delta_e_mean"],
        delta_e_worst_tile=figures["delta_e_worst_tile"],
        phash=int(figures["phash"]),
        max_abs=int(figures["max_abs"]),
    )


def total(*comparisons: Comparison, nudge: Drift | None = None) -> Drift:
    found = drift(comparisons, nudge)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("verdict", "edge", "beyond"),
    [
        ("bit-exact", {"max_abs": 0}, {"max_abs": 1}),
        ("rounding", {"max_abs": 1}, {"max_abs": 2}),
        ("perceptually-identical", {"ssim": 0.99}, {"ssim": 0.9899}),
        ("perceptually-identical", {"ssim_worst_tile": 0.95}, {"ssim_worst_tile": 0.9499}),
        ("perceptually-identical", {"delta_e_worst_tile": 1.0}, {"delta_e_worst_tile": 1.001}),
        ("fine-detail", {"ssim": 0.95}, {"ssim": 0.9499}),
        ("fine-detail", {"ssim_worst_tile": 0.80}, {"ssim_worst_tile": 0.7999}),
        ("fine-detail", {"delta_e_worst_tile": 3.0}, {"delta_e_worst_tile": 3.001}),
        ("visibly-changed", {"ssim": 0.80}, {"ssim": 0.7999}),
        ("visibly-changed", {"ssim_worst_tile": 0.40}, {"ssim_worst_tile": 0.3999}),
    ],
)
def test_each_gate_is_at_its_value(
    verdict: DriftVerdict, edge: dict[str, float], beyond: dict[str, float]
) -> None:
    """At the edge the word is earned, just beyond it the next one is."""
    gate = next(gate for gate in GATES if gate.verdict == verdict)
    just = {**SAME, "max_abs": 40.0, **gate.at_least, **gate.at_most}
    assert drift_verdict({**just, **edge}) == verdict
    assert rank(drift_verdict({**just, **beyond})) == rank(verdict) + 1


def test_the_words_are_in_order_and_all_have_a_gate_and_a_meaning() -> None:
    assert tuple(gate.verdict for gate in GATES) == DRIFT_VERDICTS
    assert len({meaning(verdict) for verdict in DRIFT_VERDICTS}) == len(DRIFT_VERDICTS)
    assert set(DETERMINISM_MEANINGS) == {"held", "broken", "unverified", "not-applicable"}


def test_visibly_changed_does_not_ask_about_colour() -> None:
    assert drift_verdict({**FAR, "ssim": 0.9, "ssim_worst_tile": 0.5}) == "visibly-changed"
    assert drift_verdict(FAR) == "different"


def test_gates_can_be_recalibrated() -> None:
    measured = {**SAME, "max_abs": 9.0}
    strict = tuple(gate for gate in GATES if gate.verdict != "perceptually-identical")
    assert drift_verdict(measured) == "perceptually-identical"
    assert drift_verdict(measured, strict) == "fine-detail"


def test_a_changed_subject_on_a_flat_background_is_different() -> None:
    a = np.full((64, 96, 3), (200, 220, 210), np.uint8)
    b = a.copy()
    a[24:40, 40:56], b[24:40, 40:56] = scene(1)[:16, :16], scene(2)[:16, :16]
    assert measure(a, b)["ssim"] > 0.9
    assert drift_verdict(measure(a, b)) == "different"


def test_one_level_everywhere_is_rounding() -> None:
    assert drift_verdict(measure(scene(1), scene(1) + np.uint8(1))) == "rounding"


def test_the_worst_picture_governs() -> None:
    assert worst(["rounding", "visibly-changed", "bit-exact"]) == "visibly-changed"
    found = total(
        compared({"ssim": 0.99, "max_abs": 1}, "rounding"),
        compared({"ssim": 0.96, "ssim_worst_tile": 0.9, "delta_e_worst_tile": 2, "phash": 4}),
    )
    assert found.verdict == "fine-detail"
    assert found.ssim_mean == pytest.approx(0.975)
    assert (found.ssim_min, found.ssim_worst_tile) == (0.96, 0.9)
    assert (found.delta_e_worst_tile, found.phash_max, found.max_abs) == (2, 4, 1)
    assert drift([]) is None


def test_pictures_are_ordered_by_word_then_by_their_lowest_tile() -> None:
    mild = compared({"ssim_worst_tile": 0.2}, "rounding")
    bad = compared({"ssim_worst_tile": 0.6}, "different")
    worse = compared({"ssim_worst_tile": 0.5}, "different")
    assert worst_first(total(mild, bad, worse)) == [worse, bad, mild]


def test_few_trials_are_never_called_held() -> None:
    assert [determinism(n, 0) for n in (0, 4, 5, 300)] == [
        "unverified",
        "unverified",
        "held",
        "held",
    ]


def test_one_failure_breaks_however_few_or_many_trials_there_are() -> None:
    assert determinism(1, 1) == "broken"
    assert determinism(300, 1) == "broken"


NUDGE = {"ssim": 0.97, "ssim_worst_tile": 0.9, "delta_e_worst_tile": 2.0, "max_abs": 20.0}


def test_no_more_than_a_nudge_is_not_attributable() -> None:
    nudge = total(compared(NUDGE))
    assert total(compared(NUDGE), nudge=nudge).not_attributable
    assert not total(compared(NUDGE), nudge=None).not_attributable


@pytest.mark.parametrize(
    "larger",
    [{"ssim": 0.96}, {"ssim_worst_tile": 0.89}, {"delta_e_worst_tile": 2.1}, {"max_abs": 21.0}],
    ids=lambda larger: next(iter(larger)),
)
def test_more_than_a_nudge_in_any_way_is_attributable(larger: dict[str, float]) -> None:
    nudge = total(compared(NUDGE))
    assert not total(compared({**NUDGE, **larger}), nudge=nudge).not_attributable


def test_equal_bits_need_no_excuse() -> None:
    assert not not_attributable(total(compared(verdict="bit-exact")), total(compared(NUDGE)))
