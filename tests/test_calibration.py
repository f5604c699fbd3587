"""Gates follow from a model's controls; here from made-up ones."""

import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from audit.calibration import (
    FAR,
    NEAR,
    Calibration,
    Measured,
    auc,
    calibrated,
    distances,
    gates_of,
    read_calibration,
    roc,
    summary,
)
from audit.metrics import METRICS
from audit.score import DRIFT_VERDICTS, Gate
from audit.verdicts import GATES, drift_verdict
from core.request import Model

NUDGED = {
    "ssim": 0.9999,
    "ssim_worst_tile": 0.999,
    "delta_e_mean": 0.01,
    "delta_e_worst_tile": 0.1,
    "phash": 0.0,
    "max_abs": 1.0,
}
APART = {
    "ssim": 0.6,
    "ssim_worst_tile": 0.1,
    "delta_e_mean": 9.0,
    "delta_e_worst_tile": 40.0,
    "phash": 20.0,
    "max_abs": 200.0,
}


def controls(far: list[Measured], near: list[Measured] | None = None) -> Calibration:
    return Calibration(
        model_digest="d" * 64,
        num_inference_steps=8,
        guidance_scale=5.0,
        width=128,
        height=128,
        prompts=("a cat",),
        pairs={NEAR: tuple(near or [NUDGED] * 20), FAR: tuple(far)},
    )


def by_word(gates: tuple[Gate, ...]) -> dict[str, Gate]:
    return {gate.verdict: gate for gate in gates}


def test_auc_is_the_chance_that_the_farther_control_scores_farther() -> None:
    near, far = np.array([0.0, 1.0]), np.array([1.0, 2.0])
    assert auc(near, far) == 0.875
    assert auc(far, near) == 0.125
    assert auc(near, near) == 0.5


def test_the_roc_goes_from_corner_to_corner_and_its_area_is_the_auc() -> None:
    assert roc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == [(0, 0), (0, 1), (1, 1)]
    rng = np.random.default_rng(1)
    near, far = rng.normal(0, 1, 90).round(1), rng.normal(1, 2, 90).round(1)
    points = np.array(roc(near, far))
    assert points[0].tolist() == [0, 0]
    assert points[-1].tolist() == [1, 1]
    assert (np.diff(points, axis=0) >= 0).all()
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(auc(near, far))


def test_distances_grow_with_drift_whatever_the_metric_prefers() -> None:
    measured = [metric for metric in METRICS if metric.name in NUDGED]
    assert measured
    for metric in measured:
        near, far = distances([NUDGED], metric), distances([APART], metric)
        assert auc(near, far) == 1, metric.name


def test_controls_that_the_gates_already_tell_apart_move_none() -> None:
    assert calibrated(controls([APART] * 20)) == GATES


def test_one_far_pair_in_twenty_may_pass_by_chance_and_two_tighten_the_loosest_gate() -> None:
    close = {**APART, "ssim": 0.9, "ssim_worst_tile": 0.55}
    assert calibrated(controls([APART] * 19 + [close])) == GATES
    gates = calibrated(controls([APART] * 18 + [close] * 2))
    changed = by_word(gates)["visibly-changed"]
    assert not changed.passes(close)
    assert [gate.verdict for gate in gates if gate != by_word(GATES)[gate.verdict]] == [
        "visibly-changed"
    ]


def test_it_is_tightened_in_the_metric_that_separates_best_just_beyond_the_pair() -> None:
    """By SSIM some nudges lie farther apart than other seeds, by tiles none does."""
    close = {**APART, "ssim": 0.9, "ssim_worst_tile": 0.55}
    near = [NUDGED] * 10 + [{**NUDGED, "ssim": 0.5}] * 10
    changed = by_word(calibrated(controls([APART] * 18 + [close] * 2, near)))["visibly-changed"]
    assert changed.at_least == {"ssim": 0.80, "ssim_worst_tile": 0.551}


def test_no_far_pair_is_ever_called_the_same_picture() -> None:
    close = {**APART, "ssim": 0.97, "ssim_worst_tile": 0.86, "delta_e_worst_tile": 2.345}
    far = [APART] * 99 + [close]
    assert drift_verdict(close) == "fine-detail"
    gates = calibrated(controls(far))
    assert drift_verdict(close, gates) == "visibly-changed"
    assert by_word(gates)["visibly-changed"] == by_word(GATES)["visibly-changed"]
    assert by_word(gates)["fine-detail"].at_least["ssim"] == 0.971


def test_a_stricter_word_is_never_easier_to_earn() -> None:
    close = {**APART, "ssim": 0.995, "ssim_worst_tile": 0.97, "delta_e_worst_tile": 8.0}
    gates = calibrated(controls([close] * 20))
    order = [by_word(gates)[word] for word in DRIFT_VERDICTS[2:5]]
    for strict, loose in pairwise(order):
        for name, limit in loose.at_least.items():
            assert strict.at_least[name] >= limit
        for name, limit in loose.at_most.items():
            assert strict.at_most[name] <= limit
    assert not any(gate.passes(close) for gate in order)


@pytest.mark.parametrize("value", [0.9, 0.3, 0.7, 0.551, 0.29999999])
def test_a_limit_lies_strictly_beyond_the_value_it_excludes(value: float) -> None:
    """0.9 / 0.001 is not a whole number to a computer."""
    gate = Gate(verdict="visibly-changed", meaning="", at_least={"ssim": 0.0})
    other = {**APART, "ssim": value}
    (made,) = calibrated(controls([other] * 20), (gate,))
    assert value < made.at_least["ssim"] <= value + 0.001 + 1e-9


def test_colour_limits_are_tightened_downwards() -> None:
    gate = Gate(verdict="visibly-changed", meaning="", at_most={"delta_e_worst_tile": 50.0})
    (made,) = calibrated(controls([APART] * 20), (gate,))
    assert made.at_most == {"delta_e_worst_tile": 39.99}


def test_other_seeds_that_are_as_near_as_equal_pictures_cannot_be_gated() -> None:
    same = {metric.name: metric.identical for metric in METRICS} | {"max_abs": 9.0}
    with pytest.raises(ValueError, match="other seeds are as near as equal ones by"):
        calibrated(controls([same] * 20))


@pytest.mark.parametrize(("name", "fits"), [("phash", True), ("ssim", False)])
def test_a_file_without_a_metric_is_read_unless_a_gate_asks_for_it(
    tmp_path: Path, name: str, fits: bool
) -> None:
    """So that a metric that comes later makes no older file unreadable."""
    near, far = ({m: v for m, v in pair.items() if m != name} for pair in (NUDGED, APART))
    made = controls([far] * 20, near=[near] * 20)
    (tmp_path / "calibration.json").write_text(json.dumps({"controls": asdict(made)}))
    if not fits:
        with pytest.raises(ValueError, match="not a calibration that this version can read"):
            read_calibration(tmp_path)
        return
    read = read_calibration(tmp_path)
    assert read is not None
    assert calibrated(read) == GATES
    assert set(summary(read)["metrics"]) == {m.name for m in METRICS} - {name}  # type: ignore[call-overload]


def test_what_is_published_follows_from_the_pairs_in_the_file(tmp_path: Path) -> None:
    close = {**APART, "ssim": 0.9, "ssim_worst_tile": 0.55}
    made = controls([APART] * 18 + [close] * 2)
    assert read_calibration(tmp_path) is None
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps({"controls": asdict(made), **summary(made)}))
    read = read_calibration(tmp_path)
    assert read is not None
    assert calibrated(read) == calibrated(made)
    content = json.loads(file.read_text())
    assert content["metrics"]["ssim"]["auc"] == {FAR: 1.0}
    words = content["words"][FAR]
    assert words["starting"]["visibly-changed"] == 2
    assert words["calibrated"]["visibly-changed"] <= 1
    assert sum(words["calibrated"].values()) == 20
    assert content["words"][NEAR]["starting"]["rounding"] == 20


def text_of(made: Calibration) -> str:
    return json.dumps({"controls": asdict(made)})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"controls": {}}',
        text_of(controls([])),
        text_of(controls([{"ssim": 0.5}])),
        text_of(replace(controls([APART]), pairs={FAR: (APART,)})),
    ],
)
def test_a_damaged_calibration_is_said_to_be(tmp_path: Path, text: str) -> None:
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(ValueError, match="is not a calibration that this version can read"):
        read_calibration(tmp_path)
    gates, origin = gates_of(Model(name="m", path=tmp_path, digest="d" * 64))
    assert gates == GATES
    assert origin.startswith("The gates for drift are starting values: ")


def test_a_models_own_calibration_gives_its_gates_and_anothers_does_not(tmp_path: Path) -> None:
    close = {**APART, "ssim": 0.9, "ssim_worst_tile": 0.55}
    made = controls([APART] * 18 + [close] * 2)
    model = Model(name="m", path=tmp_path, digest=made.model_digest)
    gates, origin = gates_of(model)
    assert gates == GATES
    assert "this model comes without a calibration" in origin
    (tmp_path / "calibration.json").write_text(text_of(made))
    gates, origin = gates_of(model)
    assert gates == calibrated(made) != GATES
    assert origin == "The gates for drift follow from this model's own controls, 20 pairs each."
    gates, origin = gates_of(replace(model, digest="e" * 64))
    assert gates == GATES
    assert "calibration.json is of other weights" in origin
