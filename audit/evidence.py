"""What a row's figures say, in sentences that can each be read alone."""

from collections.abc import Iterator

from audit.prompt_evidence import sentences
from audit.score import AXES, Axis, Score, TimeRatio
from audit.units import counted, gigabytes, interval, percent, seconds, similarity
from audit.verdicts import meaning


def evidence(row: Score) -> Iterator[str]:
    """Repeatability, drift, prompts, speed and memory with their counts, then what is not known."""
    yield from _held(row)
    if row.drift is not None:
        yield _drift(row)
        if row.drift.not_attributable:
            yield "No larger than what moving one initial latent by one ULP does here."
    if row.prompt_followed is not None:
        yield from sentences(row.prompt_followed)
    if row.time_ratio is not None:
        yield _time(row, row.time_ratio)
    if row.peak_memory_bytes is not None:
        yield f"Peak memory: {gigabytes(row.peak_memory_bytes)} ({row.memory_kind})."
    for axis in AXES:
        if _word(row, axis) == "broken":
            verdict = row.determinism[axis]
            count = counted(verdict.trials, "trial")
            shown = f"; {verdict.witness.difference}" if verdict.witness else ""
            yield f"{axis}: broken, {verdict.failures} of {count} gave other bits{shown}."
        elif _word(row, axis) == "not-applicable":
            yield f"{axis}: not applicable; {row.determinism[axis].reason}."
    if unknown := [axis for axis in AXES if _word(row, axis) == "unverified"]:
        yield f"Not verified: {', '.join(unknown)}."
    if row.inherited_from:
        yield f"Taken over from {row.inherited_from}; no trials of its own."


def _word(row: Score, axis: Axis) -> str:
    return row.determinism[axis].verdict if axis in row.determinism else "unverified"


def _held(row: Score) -> Iterator[str]:
    """One sentence for all axes that held by the same count, for the reader's patience."""
    groups: dict[tuple[int, float | None, str], list[Axis]] = {}
    for axis in AXES:
        if _word(row, axis) == "held":
            verdict = row.determinism[axis]
            groups.setdefault((verdict.trials, verdict.p_upper95, verdict.reason), []).append(axis)
    for (count, limit, reason), axes in groups.items():
        things = "fresh processes" if axes == ["fresh-process"] else "independent trials"
        each = " each" if len(axes) > 1 else ""
        sentence = f"{' and '.join(_listed(axes))}: held in {count} of {count} {things}{each}"
        if limit is not None:
            sentence += f"; fails at most {percent(limit)} of the time (95 %)"
        yield f"{sentence}; {reason}." if reason else f"{sentence}."


def _listed(axes: list[Axis]) -> tuple[str, ...]:
    """All but the last joined by commas, and the last."""
    return (", ".join(axes[:-1]), axes[-1]) if len(axes) > 1 else (axes[0],)


def _time(row: Score, time: TimeRatio) -> str:
    median = seconds(row.seconds_median) if row.seconds_median else ""
    if time.ci95 == (1.0, 1.0):
        taken = f": {median} at the median" if median else ""
        return f"Time per picture{taken}, the unit of every ratio ({counted(time.pairs, 'run')})."
    return f"Time per picture against the baseline: {interval(time)}" + (
        f"; {median} at the median." if median else "."
    )


def _drift(row: Score) -> str:
    drift = row.drift
    if drift is None:
        raise ValueError("this row was not compared")
    count = counted(len(drift.pictures), "picture")
    if drift.verdict == "bit-exact":
        return f"bit-exact in {len(drift.pictures)} of {count}: every pixel equals the baseline's."
    return (
        f"{drift.verdict}, by the worst of {count}: {meaning(drift.verdict)}. SSIM down to "
        f"{similarity(drift.ssim_min)} (lowest 16 px tile {similarity(drift.ssim_worst_tile)}), "
        f"ΔE2000 up to {drift.delta_e_worst_tile:.1f} in a tile, pHash up to {drift.phash_max} of "
        f"64 bits, channels up to {drift.max_abs} of 255 levels."
    )


def agreements(score: Score) -> Iterator[str]:
    """Every axis that was tried: its verdict and how many trials agree."""
    for axis in AXES:
        verdict = score.determinism.get(axis)
        if verdict is not None and verdict.trials:
            agree = verdict.trials - verdict.failures
            yield f"{axis} {verdict.verdict} {agree}/{verdict.trials}"
