"""Speed against drift as inline SVG: no script, no request, its colours from the page's style."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audit.front import pareto_front, repeats
from audit.score import DRIFT_VERDICTS, DriftVerdict, TimeRatio
from audit.score import Score as Row
from audit.statistics import noise_floor

_TICKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
_LETTER = 7.4
"""Average advance in pixels of a 12-pixel letter, to keep labels inside."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Pixels. A narrow plot names bands above their rows and points above their marks."""

    width: int
    left: int
    right: int
    row: int
    heading: int
    narrow: bool

    def x(self, ratio: float, low: float, high: float) -> float:
        share = math.log(ratio / low) / math.log(high / low)
        return self.left + share * (self.width - self.left - self.right)


WIDE = _Layout(width=980, left=190, right=24, row=26, heading=0, narrow=False)
NARROW = _Layout(width=340, left=14, right=14, row=38, heading=24, narrow=True)


def speed_against_drift(
    scores: Sequence[Row], baseline: str, names: dict[str, str], layout: _Layout = WIDE
) -> Markup:
    """One mark per configuration: time to the left is faster, down is farther from the baseline.

    The front is the marks no closer configuration beats in time; a cross does not repeat. The
    grey column is where a difference in time means nothing.
    """
    shown = [
        (row.drift.verdict, row.time_ratio, row)
        for row in scores
        if row.drift is not None and row.time_ratio is not None and not row.placebo
    ]
    if not shown:
        return Markup("")
    floor = noise_floor(next((row.time_ratio for row in scores if row.placebo), None))
    low = min(*(ratio.ci95[0] for _, ratio, _ in shown), math.exp(-floor), 0.9) / 1.05
    high = max(*(ratio.ci95[1] for _, ratio, _ in shown), math.exp(floor), 1.1) * 1.05
    front = pareto_front(scores, baseline)
    farthest = max(DRIFT_VERDICTS.index(verdict) for verdict, _, _ in shown)
    y = 8.0
    bands: list[Markup] = []
    marks: list[Markup] = []
    path: list[tuple[float, float]] = []
    for verdict in DRIFT_VERDICTS[: farthest + 1]:
        rows = sorted(
            ((ratio, row) for word, ratio, row in shown if word == verdict),
            key=lambda entry: (entry[0].median, entry[1].key),
        )
        height = layout.heading + max(len(rows), 1) * layout.row + 8
        bands.append(_band(verdict, y, height, layout, empty=not rows))
        for place, (ratio, row) in enumerate(rows):
            middle = y + 4 + layout.heading + (place + 0.5) * layout.row
            middle += 8 if layout.narrow else 0
            at = layout.x(ratio.median, low, high)
            if row.key in front:
                path.append((at, middle))
            kind = "front" if row.key in front else "plain" if repeats(row) else "unrepeatable"
            marks.append(_mark(kind, names[row.key], ratio, at, middle, low, high, layout))
        y += height
    return Markup(
        '<svg class="plot {kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        "{noise}{bands}{axis}{path}{marks}</svg>"
    ).format(
        kind="narrow" if layout.narrow else "wide",
        width=layout.width,
        height=round(y + 44),
        label="Time against drift of every configuration; the table below has the same figures.",
        noise=_noise(floor, y, low, high, layout),
        bands=Markup("").join(bands),
        axis=_axis(y, low, high, layout),
        path=_path(path),
        marks=Markup("").join(marks),
    )


def _band(verdict: DriftVerdict, y: float, height: float, layout: _Layout, empty: bool) -> Markup:
    text_y = y + (16 if layout.narrow else height / 2 + 4)
    return Markup(
        '<line class="rule" x1="0" x2="{w}" y1="{y}" y2="{y}"/>'
        '<text class="band{empty}" x="{x}" y="{ty}">{verdict}</text>'
    ).format(
        w=layout.width,
        y=round(y, 1),
        x=layout.left if layout.narrow else 4,
        ty=round(text_y, 1),
        verdict=verdict,
        empty=" none" if empty else "",
    )


def _mark(
    kind: str,
    name: str,
    ratio: TimeRatio,
    x: float,
    y: float,
    low: float,
    high: float,
    layout: _Layout,
) -> Markup:
    left, right = (layout.x(bound, low, high) for bound in ratio.ci95)
    length = _LETTER * len(name)
    if layout.narrow:
        anchor, at, text_y = "middle", x, y - 10
        at = min(max(at, length / 2), layout.width - length / 2)
    elif right + 12 + length < layout.width:
        anchor, at, text_y = "start", right + 12, y + 4
    elif left - 12 - length > layout.left:
        anchor, at, text_y = "end", left - 12, y + 4
    else:  # beside neither end of so long an interval: above it
        anchor, at, text_y = "end", layout.width - 4, y - 6
    shape = (
        '<path class="cross" d="M{l:.1f} {t:.1f}l8 8m0 -8l-8 8"/>'
        if kind == "unrepeatable"
        else '<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    )
    return Markup(
        '<g><line class="whisker" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        + shape
        + '<text class="name {kind}" x="{at:.1f}" y="{ty:.1f}" text-anchor="{anchor}">{name}</text>'
        "</g>"
    ).format(
        left=left,
        right=right,
        x=x,
        y=y,
        l=x - 4,
        t=y - 4,
        kind=kind,
        at=at,
        ty=text_y,
        anchor=anchor,
        name=name,
    )


def _path(points: Sequence[tuple[float, float]]) -> Markup:
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline class="path" points="{}"/>').format(text)


def _noise(floor: float, height: float, low: float, high: float, layout: _Layout) -> Markup:
    left, right = layout.x(math.exp(-floor), low, high), layout.x(math.exp(floor), low, high)
    return Markup('<rect class="noise" x="{:.1f}" y="8" width="{:.1f}" height="{:.1f}"/>').format(
        left, right - left, height - 8
    )


def _axis(y: float, low: float, high: float, layout: _Layout) -> Markup:
    parts = []
    last = -math.inf
    for tick in sorted(_TICKS, key=lambda tick: (tick != 1.0, tick)):
        x = layout.x(tick, low, high)
        if tick == 1.0:
            one = x
        elif not low <= tick <= high or abs(x - last) < 34 or abs(x - one) < 34:
            continue
        last = x if tick != 1.0 else last
        parts.append(
            Markup(
                '<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="8" y2="{:.1f}"/>'
                '<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="middle">{:g}</text>'
            ).format("one" if tick == 1.0 else "grid", x, x, y, x, y + 16, tick)
        )
    title = "time per picture ÷ the baseline's (left is faster)"
    middle = (layout.left + layout.width - layout.right) / 2
    parts.append(
        Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
            middle, y + 36, title
        )
    )
    return Markup("").join(parts)
