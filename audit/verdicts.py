"""The words of a verdict, and the gates between them."""

from collections.abc import Iterable, Mapping

from audit.score import DRIFT_VERDICTS, Determinism, Drift, DriftVerdict, Gate

MIN_TRIALS = 5
"""Below five trials nothing is called `held`: five without a failure still allow 45 %."""

DETERMINISM_MEANINGS: Mapping[Determinism, str] = {
    "held": "every trial gave equal bits; the bound says how often it may still fail",
    "broken": "at least one trial gave other bits; a witness is kept",
    "unverified": f"not tried here, or fewer than {MIN_TRIALS} trials",
    "not-applicable": "cannot be varied on this platform",
}


GATES = (
    Gate(
        verdict="bit-exact",
        meaning="every pixel is equal",
        at_most={"max_abs": 0},
    ),
    Gate(
        verdict="rounding",
        meaning="no channel differs by more than 1 of 255 levels",
        at_most={"max_abs": 1},
    ),
    Gate(
        verdict="perceptually-identical",
        meaning="no difference can be seen, side by side",
        at_least={"ssim": 0.99, "ssim_worst_tile": 0.95},
        at_most={"delta_e_worst_tile": 1.0},
    ),
    Gate(
        verdict="fine-detail",
        meaning="the same picture; fine detail moved",
        at_least={"ssim": 0.95, "ssim_worst_tile": 0.80},
        at_most={"delta_e_worst_tile": 3.0},
    ),
    Gate(
        verdict="visibly-changed",
        meaning="the same composition, visibly changed",
        at_least={"ssim": 0.80, "ssim_worst_tile": 0.40},
    ),
    Gate(verdict="different", meaning="another picture"),
)
"""From the strictest; the first one that is passed gives the word. Starting values from the
literature (TensorRT-LLM's eager-against-graph gate, FP8 and cross-GPU bands); `audit.calibration`
tightens them where a model's own controls contradict them."""


def drift_verdict(measured: Mapping[str, float], gates: tuple[Gate, ...] = GATES) -> DriftVerdict:
    """The word for one picture, from its metrics by name."""
    return next((gate.verdict for gate in gates if gate.passes(measured)), "different")


def rank(verdict: DriftVerdict) -> int:
    """0 for `bit-exact`, larger the farther."""
    return DRIFT_VERDICTS.index(verdict)


def worst(verdicts: Iterable[DriftVerdict]) -> DriftVerdict:
    """The word for several pictures: the worst one governs."""
    return max(verdicts, key=rank)


def meaning(verdict: DriftVerdict, gates: tuple[Gate, ...] = GATES) -> str:
    return next(gate.meaning for gate in gates if gate.verdict == verdict)


def determinism(trials: int, failures: int) -> Determinism:
    """The word for one axis. One failure breaks a claim; only enough trials make one."""
    if failures:
        return "broken"
    return "held" if trials >= MIN_TRIALS else "unverified"


def not_attributable(drift: Drift, nudge: Drift | None) -> bool:
    """Whether a drift is no larger than what moving one initial latent by one ULP does here.

    Stands beside any word but `bit-exact`: however visible the drift is, the model amplifies the
    smallest possible rounding difference as much, so it says nothing about the setting's quality.
    """
    return (
        nudge is not None
        and drift.verdict != "bit-exact"
        and drift.ssim_min >= nudge.ssim_min
        and drift.ssim_worst_tile >= nudge.ssim_worst_tile
        and drift.delta_e_worst_tile <= nudge.delta_e_worst_tile
        and drift.max_abs <= nudge.max_abs
    )
