"""Figures and verdicts in words, the same on every page."""

from collections.abc import Mapping
from html import escape

from audit.score import AXES, Audit, Axis, AxisVerdict, Determinism, Drift, Score, TimeRatio
from audit.statistics import MIN_PAIRS, tied
from audit.units import bound, percent, trials
from audit.verdicts import meaning
from core.request import Request

Tone = str
"""A class of `style.css`: `good`, `care`, `bad` or `quiet`."""

_UNIT = TimeRatio(median=1.0, ci95=(1.0, 1.0), pairs=10**6)
"""The baseline's time, which every ratio is of."""

AXIS_NAMES: Mapping[Axis, str] = {
    "same-process": "same process",
    "after-other-work": "after other work",
    "fresh-process": "fresh process",
    "batch-size": "batch size",
    "batch-position": "place in the batch",
    "threads": "threads",
    "instruction-set": "instruction set",
}
DETERMINISM_TONES: Mapping[Determinism, Tone] = {
    "held": "good",
    "broken": "bad",
    "unverified": "care",
    "not-applicable": "quiet",
}
DRIFT_TONES: Mapping[str, Tone] = {
    "bit-exact": "good",
    "rounding": "good",
    "perceptually-identical": "good",
    "fine-detail": "care",
    "visibly-changed": "care",
    "different": "bad",
}

ASKED_NAMES: Mapping[str, str] = {
    "schedule": "Schedule",
    "noise-source": "Random numbers",
    "variation": "Variation",
    "eta-noise-seed-delta": "Eta noise seed delta",
    "clip-skip": "Clip skip",
}
"""What a picture's own fields are called, by the name that a run records their effect under."""


def beside(request: Request) -> tuple[str, ...]:
    """The fields that most pictures leave alone, where this one does not."""
    usual = Request(prompt="", model=request.model)
    parts = (
        (request.schedule != usual.schedule, f"schedule {request.schedule}"),
        (request.noise_source != usual.noise_source, f"random numbers {request.noise_source}"),
        (
            request.variation_strength > 0,
            f"variation {request.variation_seed} at {request.variation_strength:g}",
        ),
        (request.eta_noise_seed_delta > 0, f"ENSD {request.eta_noise_seed_delta}"),
        (request.clip_skip > 1, f"clip skip {request.clip_skip}"),
    )
    return tuple(words for said, words in parts if said)


def seconds(value: float) -> str:
    """A measured time: as many figures as anybody reads."""
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 9.95:
        return f"{value:.2f} s"
    if value < 90:
        return f"{value:.0f} s"
    return f"{int(value + 0.5) // 60} min {int(value + 0.5) % 60} s"


def about(value: float) -> str:
    """A time that is only estimated."""
    if value < 1:
        return "under 1 s"
    if value < 90:
        return f"about {value:.0f} s"
    if value < 5400:
        return f"about {value / 60:.0f} min"
    return f"about {value / 3600:.1f} h"


def short(digest: str) -> str:
    return digest[:12]


def setting(name: str) -> str:
    """A setting's name, escaped, that may break into lines after its equals sign."""
    return escape(name).replace("=", "=<wbr>")


def chip(text: str, tone: Tone = "quiet", title: str = "") -> str:
    """A short word on a tinted ground; the word says it, the colour only helps."""
    hint = f' title="{escape(title)}"' if title else ""
    return f'<span class="sp-chip sp-{tone}"{hint}>{escape(text)}</span>'


def axis_sentence(axis: Axis, verdict: AxisVerdict) -> str:
    """One axis as a sentence with its counts and its bound."""
    name = AXIS_NAMES[axis]
    if verdict.verdict == "not-applicable":
        return f"{name}: does not apply. {verdict.reason}".strip()
    if not verdict.trials:
        return f"{name}: not tried. {verdict.reason}".strip()
    parts = [f"{name}: {verdict.verdict}", f"{trials(verdict)} trials gave equal bits"]
    if limit := bound(verdict):
        parts.append(f"{limit} of the time (95 %)")
    return f"{', '.join(parts)}. {verdict.reason}".strip()


def axis_chips(score: Score) -> str:
    """Every axis that was tried, in the order of `AXES`, each with its count."""
    chips = []
    for axis in AXES:
        verdict = score.determinism.get(axis)
        if verdict is None or not verdict.trials:
            continue
        text = f"{AXIS_NAMES[axis]}: {verdict.verdict} {trials(verdict)}"
        chips.append(chip(text, DETERMINISM_TONES[verdict.verdict], axis_sentence(axis, verdict)))
    return " ".join(chips) or chip("not tried", "quiet")


def repeats_chips(score: Score) -> str:
    """All axes in at most two chips: how many held in how many trials, and the broken by name."""
    tried = {
        axis: score.determinism[axis]
        for axis in AXES
        if axis in score.determinism and score.determinism[axis].trials
    }
    told = " ".join(axis_sentence(axis, verdict) for axis, verdict in tried.items())
    chips = []
    if held := [verdict.trials for verdict in tried.values() if verdict.verdict == "held"]:
        axes = "1 axis" if len(held) == 1 else f"{len(held)} axes"
        chips.append(chip(f"held on {axes}, {min(held)} trials", "good", told))
    if broken := [AXIS_NAMES[axis] for axis, v in tried.items() if v.verdict == "broken"]:
        chips.append(chip(f"broken: {', '.join(broken)}", "bad", told))
    if chips:
        return " ".join(chips)
    return chip("too few trials", "care", told) if tried else chip("not tried", "quiet")


def drift_chip(drift: Drift | None) -> str:
    if drift is None:
        return chip("not compared", "quiet")
    beside = ""
    if drift.not_attributable:
        beside = " " + chip(
            "not attributable", "quiet", "No larger than what moving one number by one bit does."
        )
    return chip(drift.verdict, DRIFT_TONES[drift.verdict], meaning(drift.verdict)) + beside


def speed_chip(time: TimeRatio | None, placebo: TimeRatio | None) -> str:
    """Faster or slower only where the measurements can tell it from the baseline."""
    if time is None:
        return chip("not timed", "quiet")
    if time.pairs < MIN_PAIRS:
        return chip("too few pairs to tell", "quiet", f"A speed is claimed from {MIN_PAIRS} on.")
    if tied(time, _UNIT, placebo):
        return chip("no measurable difference", "quiet")
    if time.median < 1:
        return chip(f"{percent(1 - time.median)} less time", "good")
    return chip(f"{percent(time.median - 1)} more time", "care")


def placebo_of(audit: Audit) -> TimeRatio | None:
    """How far the baseline strays from itself in time."""
    return next((score.time_ratio for score in audit.scores if score.placebo), None)


def settings_of(key: str) -> dict[str, str]:
    """A configuration's key back as slot → value text; what is not such a text is left out."""
    return {slot: value for slot, equals, value in map(_parts, key.split()) if equals}


def _parts(text: str) -> tuple[str, str, str]:
    return text.partition("=")
