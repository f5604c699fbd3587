"""Figures as text: each with its unit, no more digits than were measured."""

from audit.score import AxisVerdict, Drift, TimeRatio
from core.sizes import gigabytes as gigabytes


def percent(share: float) -> str:
    """Three significant digits, as bounds are quoted: 45.1 %, 4.95 %."""
    return f"{100 * share:.3g} %"


def seconds(value: float) -> str:
    """Three significant digits, trailing zeros kept: 0.320 s, 1.64 s, 12.5 s."""
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f} s"


def duration(value: float) -> str:
    """How long something took, for a person: 42 s, 12 min, 3.4 h."""
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def ratio(value: float) -> str:
    return f"{value:.2f} ×"


def interval(value: TimeRatio) -> str:
    """The ratio with its interval and the number of pairs behind it."""
    low, high = value.ci95
    return f"{ratio(value.median)} (95 %: {low:.2f} to {high:.2f}, {counted(value.pairs, 'pair')})"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def trials(axis: AxisVerdict) -> str:
    """The count behind a word: how many of the trials agreed."""
    return f"{axis.trials - axis.failures} of {axis.trials}" if axis.trials else ""


def bound(axis: AxisVerdict) -> str:
    """What the count allows to be said about the failure rate."""
    return "" if axis.p_upper95 is None else f"fails ≤ {percent(axis.p_upper95)}"


def similarity(value: float) -> str:
    """SSIM with four decimals, cut and never rounded up to 1."""
    return "1" if value == 1 else f"{min(value, 0.99994):.4f}"


def drift_words(drift: Drift) -> str:
    """The verdict, with what stands beside it."""
    return drift.verdict + (" (not attributable)" if drift.not_attributable else "")
