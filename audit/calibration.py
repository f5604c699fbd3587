"""What a model's own controls say about the drift gates: how well each metric tells them apart, and
which limits follow.

The near control is the baseline against itself with one latent moved by one ULP, the far one the
baseline against other seeds of the same prompts. A gate keeps its starting limits unless the far
control contradicts it: pictures that are not the same must not be called so.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from audit.metrics import METRICS, Metric
from audit.score import DriftVerdict, Gate
from audit.verdicts import GATES
from core.request import Model

FILE = "calibration.json"
"""Where a model's calibration lies, in the model's folder."""
NEAR, FAR = "ulp-nudge", "other-seed"
BY_CHANCE = 0.05
"""The share of far pairs that may be called visibly changed; none may be called closer."""
FINEST: Mapping[str, float] = {"higher": 0.001, "lower": 0.01}
"""To what a tightened limit is rounded, towards the stricter side."""

Measured = Mapping[str, float]
"""Every metric of one pair of pictures, by name."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The controls of one model, pair by pair, and the setting they were made in."""

    model_digest: str
    num_inference_steps: int
    guidance_scale: float
    width: int
    height: int
    prompts: tuple[str, ...]
    pairs: Mapping[str, tuple[Measured, ...]]
    """By control; NEAR and FAR are among them."""


def distances(pairs: Sequence[Measured], metric: Metric) -> NDArray[np.float64]:
    """The metric's values, turned so that larger means farther apart."""
    sign = 1 if metric.better == "lower" else -1
    return sign * np.array([pair[metric.name] for pair in pairs], dtype=np.float64)


def auc(near: NDArray[np.float64], far: NDArray[np.float64]) -> float:
    """The chance that a far pair lies farther apart than a near one; ties count half.

    That is the area under `roc` (Hanley and McNeil, "The meaning and use of the area under a
    receiver operating characteristic (ROC) curve", Radiology 143(1), 1982).
    """
    difference = far[:, None] - near[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def roc(near: NDArray[np.float64], far: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Shares (of near, of far pairs) that are called far at every possible limit, from (0, 0) to
    (1, 1); points that lie on the line between their neighbours are left out."""
    limits = np.unique(np.concatenate([near, far]))[::-1]
    points = [(0.0, 0.0)]
    for limit in limits:
        point = (float((near >= limit).mean()), float((far >= limit).mean()))
        while len(points) > 1 and _straight(points[-2], points[-1], point):
            points.pop()
        points.append(point)
    return points


def calibrated(
    calibration: Calibration, gates: tuple[Gate, ...] = GATES, allowed: float = BY_CHANCE
) -> tuple[Gate, ...]:
    """The gates, the least strict first tightened where too many far pairs pass it.

    It is tightened in the metric that separates the controls best. A stricter word is never easier
    to earn than a looser one. `bit-exact` and `rounding` are what their names say and stay. Raises
    ValueError where a far pair is as near as equal pictures: no limit can then tell them apart.
    """
    far = calibration.pairs[FAR]
    made = list(gates)
    looser: Gate | None = None
    for place in reversed(range(len(made))):
        gate = made[place]
        if not (gate.at_least or gate.at_most) or "max_abs" in gate.at_most:
            continue
        most = math.floor(allowed * len(far)) if looser is None else 0
        gate = _tightened(_no_easier(gate, looser), calibration, most)
        made[place] = looser = gate
    return tuple(made)


def read_calibration(model: Path) -> Calibration | None:
    """The calibration in a model's folder, None where there is none; ValueError where it is
    damaged."""
    file = model / FILE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        found = TypeAdapter(Calibration).validate_python(content["controls"])
        if not all(_complete(found.pairs[name]) for name in (NEAR, FAR)):
            raise ValueError("a control without pairs, or a pair without a metric of the gates")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"its {FILE} is not a calibration that this version can read") from error
    return found


def gates_of(model: Model) -> tuple[tuple[Gate, ...], str]:
    """The gates for a model's pictures, and where they come from, in one sentence.

    The starting values serve where no calibration of these weights can be used.
    """
    try:
        calibration = read_calibration(model.path)
        if calibration is None:
            raise ValueError("this model comes without a calibration")
        if calibration.model_digest != model.digest:
            raise ValueError(f"its {FILE} is of other weights")
        gates = calibrated(calibration)
    except ValueError as error:
        return GATES, f"The gates for drift are starting values: {error}."
    pairs = len(calibration.pairs[FAR])
    return gates, f"The gates for drift follow from this model's own controls, {pairs} pairs each."


def summary(calibration: Calibration) -> dict[str, object]:
    """What is published beside the pairs, all of it computed from them."""
    gates = calibrated(calibration)
    near = calibration.pairs[NEAR]
    return {
        "metrics": {
            metric.name: {
                "auc": {
                    name: round(auc(distances(near, metric), distances(pairs, metric)), 4)
                    for name, pairs in calibration.pairs.items()
                    if name != NEAR
                },
                "roc": [
                    [round(share, 4) for share in point]
                    for point in roc(
                        distances(near, metric), distances(calibration.pairs[FAR], metric)
                    )
                ],
                "quantiles": {
                    name: [round(q, 4) for q in _quantiles(pairs, metric)]
                    for name, pairs in calibration.pairs.items()
                },
            }
            for metric in _known(calibration)
        },
        "gates": {
            gate.verdict: {"at_least": dict(gate.at_least), "at_most": dict(gate.at_most)}
            for gate in gates
        },
        "words": {
            name: {"starting": _words(pairs, GATES), "calibrated": _words(pairs, gates)}
            for name, pairs in calibration.pairs.items()
        },
    }


def _complete(pairs: Sequence[Measured]) -> bool:
    """Whether the metrics that gates ask for are there: a later one need not be."""
    asked = {name for gate in GATES for name in (*gate.at_least, *gate.at_most)}
    return bool(pairs) and all(asked <= set(pair) for pair in pairs)


def _known(calibration: Calibration) -> list[Metric]:
    """The metrics that every pair has."""
    pairs = [pair for pairs in calibration.pairs.values() for pair in pairs]
    return [metric for metric in METRICS if all(metric.name in pair for pair in pairs)]


def _tightened(gate: Gate, calibration: Calibration, most: int) -> Gate:
    """The gate with at most `most` far pairs passing it."""
    passing = [pair for pair in calibration.pairs[FAR] if gate.passes(pair)]
    if len(passing) <= most:
        return gate
    near, far = calibration.pairs[NEAR], calibration.pairs[FAR]
    named = [m for m in METRICS if m.name in gate.at_least or m.name in gate.at_most]
    best = max(named, key=lambda metric: auc(distances(near, metric), distances(far, metric)))
    # Nearest first; the first one that must not pass any more gives the limit.
    excluded = sorted(distances(passing, best).tolist())[most]
    if best.better == "higher":
        limit = _beyond(-excluded, 1, FINEST["higher"])
        tighter = replace(gate, at_least={**gate.at_least, best.name: limit})
    else:
        limit = _beyond(excluded, -1, FINEST["lower"])
        tighter = replace(gate, at_most={**gate.at_most, best.name: limit})
    if not tighter.passes({metric.name: metric.identical for metric in METRICS}):
        raise ValueError(
            f"pictures of other seeds are as near as equal ones by {best.name}: no gate can tell "
            "them apart on this model"
        )
    return tighter


def _beyond(value: float, direction: int, step: float) -> float:
    """The first multiple of `step` that lies strictly beyond the value."""
    count = math.floor(value / step) if direction > 0 else math.ceil(value / step)
    # Division may round to the multiple itself, hence a look at the one before.
    tried = (round((count + direction * more) * step, 6) for more in range(3))
    return next(limit for limit in tried if direction * (limit - value) > 0)


def _no_easier(gate: Gate, looser: Gate | None) -> Gate:
    """The gate with every limit at least as strict as the looser word's."""
    if looser is None:
        return gate
    at_least, at_most = dict(gate.at_least), dict(gate.at_most)
    for name, limit in looser.at_least.items():
        at_least[name] = max(at_least.get(name, limit), limit)
    for name, limit in looser.at_most.items():
        at_most[name] = min(at_most.get(name, limit), limit)
    return replace(gate, at_least=at_least, at_most=at_most)


def _words(pairs: Sequence[Measured], gates: tuple[Gate, ...]) -> dict[DriftVerdict, int]:
    """How many pairs earn each word."""
    told = [next(gate.verdict for gate in gates if gate.passes(pair)) for pair in pairs]
    return {gate.verdict: told.count(gate.verdict) for gate in gates}


def _quantiles(pairs: Sequence[Measured], metric: Metric) -> list[float]:
    """Least, 5 %, median, 95 % and greatest value."""
    values = [pair[metric.name] for pair in pairs]
    return [float(q) for q in np.quantile(values, (0, 0.05, 0.5, 0.95, 1))]


def _straight(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on the line from a to c."""
    turn = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return abs(turn) < 1e-12
