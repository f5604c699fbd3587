"""What the latest runs took, one bar each, as inline SVG: no script, no request, and its colours
are the page's."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from core.run import PartName, Run
from core.sizes import gigabytes
from webapp.words import seconds

Shade = str
"""A class of `pictures.css`: one accent in three strengths, and two greys."""
TIME_SHADES: Mapping[str, Shade] = {
    "text encoder": "grey",
    "UNet": "strong",
    "guidance arithmetic": "faint",
    "VAE": "middle",
    "everything else": "pale",
}
"""What time is told by, from the bottom of a bar upwards, each with its shade."""
MEMORY_SHADES: Mapping[str, Shade] = {
    "stands loaded": "grey",
    "added by the work": "strong",
}
_PARTS: Mapping[PartName, str] = {
    "text-encoder": "text encoder",
    "unet": "UNet",
    "guidance": "guidance arithmetic",
    "vae": "VAE",
}
_MOST_TICKS = 4
_WIDEST = 22
"""Pixels of a bar, however few there are."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One run."""

    at: str
    """When it began, ISO 8601."""
    parts: tuple[tuple[str, float], ...]
    """Name and amount, from the bottom upwards."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Pixels."""

    width: int
    height: int
    left: int
    narrow: bool = False


WIDE = Layout(width=980, height=220, left=64)
NARROW = Layout(width=340, height=180, left=56, narrow=True)


def time_bars(runs: Sequence[Run]) -> tuple[Bar, ...]:
    """Seconds of runs that measured their parts, in their order, without loading."""
    bars = []
    for run in runs:
        timings = run.timings
        whole = timings.encode + timings.denoise + timings.decode + timings.save
        told = [(name, run.usage.part(part)) for part, name in _PARTS.items()]
        known = {name: part.seconds if part else 0.0 for name, part in told}
        known["everything else"] = max(0.0, whole - sum(known.values()))
        parts = tuple((name, known[name]) for name in TIME_SHADES)
        bars.append(Bar(at=run.environment.started_at, parts=parts))
    return tuple(bars)


def memory_bars(runs: Sequence[Run]) -> tuple[Bar, ...]:
    """Bytes of runs whose peak and loaded memory are known, in their order."""
    bars = []
    for run in runs:
        loaded, peak = run.usage.loaded_bytes, run.memory.peak_bytes
        if loaded is None or peak is None:
            continue
        amounts = (float(min(loaded, peak)), float(max(0, peak - loaded)))
        parts = tuple(zip(MEMORY_SHADES, amounts, strict=True))
        bars.append(Bar(at=run.environment.started_at, parts=parts))
    return tuple(bars)


def time_plot(bars: Sequence[Bar], layout: Layout = WIDE) -> Markup:
    return _plot(bars, TIME_SHADES, seconds, "Time of each run by part of the pipeline.", layout)


def memory_plot(bars: Sequence[Bar], layout: Layout = WIDE) -> Markup:
    return _plot(
        bars,
        MEMORY_SHADES,
        lambda value: gigabytes(int(value)),
        "Peak memory of each run: what stood loaded, and what the work added.",
        layout,
    )


def legend(shades: Mapping[str, Shade]) -> Markup:
    items = (
        Markup('<li><span class="sp-shade sp-shade-{}"></span>{}</li>').format(shade, name)
        for name, shade in shades.items()
    )
    return Markup('<ul class="sp-legend" aria-hidden="true">{}</ul>').format(Markup("").join(items))


def moment(at: str) -> str:
    """A stored moment, to the minute."""
    return f"{at[:16].replace('T', ' ')} UTC"


def _plot(
    bars: Sequence[Bar],
    shades: Mapping[str, Shade],
    words: Callable[[float], str],
    label: str,
    layout: Layout,
) -> Markup:
    if not bars:
        return Markup("")
    top = max(sum(value for _, value in bar.parts) for bar in bars) or 1.0
    step = tick_step(top)
    high = math.ceil(top / step) * step
    bottom = layout.height - 26

    def y(value: float) -> float:
        return bottom - (bottom - 10) * value / high

    ticks = Markup("").join(
        Markup(
            '<line class="grid" x1="{l}" x2="{w}" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text class="tick" x="{x}" y="{ty:.1f}" text-anchor="end">{words}</text>'
        ).format(
            l=layout.left,
            w=layout.width,
            y=y(tick * step),
            x=layout.left - 8,
            ty=y(tick * step) + 4,
            words=words(tick * step) if tick else "0",
        )
        for tick in range(round(high / step) + 1)
    )
    pitch = (layout.width - layout.left) / len(bars)
    width = min(_WIDEST, 0.8 * pitch)
    drawn = Markup("").join(
        _bar(bar, layout.left + (place + 0.5) * pitch - width / 2, width, y, shades, words)
        for place, bar in enumerate(bars)
    )
    return Markup(
        '<svg class="plot bars {kind}" viewBox="0 0 {w} {h}" role="img" aria-label="{label} '
        'The table below has the figures.">{ticks}{drawn}{ends}</svg>'
    ).format(
        kind="narrow" if layout.narrow else "wide",
        w=layout.width,
        h=layout.height,
        label=label,
        ticks=ticks,
        drawn=drawn,
        ends=_ends(bars, layout),
    )


def _bar(
    bar: Bar,
    x: float,
    width: float,
    y: Callable[[float], float],
    shades: Mapping[str, Shade],
    words: Callable[[float], str],
) -> Markup:
    below, rects = 0.0, []
    for name, value in bar.parts:
        if value > 0:
            rects.append(
                Markup(
                    '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
                ).format(shades[name], x, y(below + value), width, y(below) - y(below + value))
            )
        below += value
    told = ", ".join(f"{name} {words(value)}" for name, value in bar.parts if value > 0)
    return Markup("<g><title>{}: {}</title>{}</g>").format(
        moment(bar.at), told, Markup("").join(rects)
    )


def _ends(bars: Sequence[Bar], layout: Layout) -> Markup:
    """When the first and the last began."""
    y = layout.height - 6

    def when(at: str) -> str:
        return at[5:16].replace("T", " ") if layout.narrow else moment(at)

    first = Markup('<text class="tick" x="{}" y="{}">{}</text>').format(
        layout.left, y, when(bars[0].at)
    )
    if len(bars) == 1 or when(bars[-1].at) == when(bars[0].at):
        return first
    return first + Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>').format(
        layout.width, y, when(bars[-1].at)
    )


def tick_step(top: float) -> float:
    """1, 2 or 5 times a power of ten, so that at most four steps reach the top."""
    power = math.pow(10, math.floor(math.log10(top / _MOST_TICKS)))
    return next(n * power for n in (1, 2, 5, 10) if n * power * _MOST_TICKS >= top * (1 - 1e-9))
