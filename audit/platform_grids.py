"""Platforms side by side, as grids of words that a terminal, a report and a page show alike."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from audit.published import Published
from audit.score import Audit, CrossPlatform, PlatformFigures, PlatformPair
from audit.selection import name_of, rows_with
from audit.units import drift_words, ratio, similarity

Cell = tuple[str, ...]
"""Lines, the first of them the most important."""

PUBLISHED = "published, not measured by us"
UNKNOWN = "determinism not measured"


@dataclass(frozen=True, kw_only=True)
class GridRow:
    name: str
    label: str
    """Where its figures come from."""
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class Grid:
    title: str
    caption: str
    heading: str
    """Of the column with the rows' names."""
    columns: tuple[str, ...]
    rows: tuple[GridRow, ...]


def grids(audit: Audit) -> tuple[Grid, ...]:
    """Every platform by configuration, and every two of them; none where the plan names none."""
    found = audit.cross_platform
    if found is None:
        return ()
    columns = tuple(
        (row.key, name_of(audit, row)) for row in audit.scores if row.available and not row.placebo
    )
    keys, names = tuple(key for key, _ in columns), tuple(name for _, name in columns)
    return (
        Grid(
            title="On each platform",
            caption=(
                "Time ÷ the same platform’s baseline, with 95 % interval, and how many pictures "
                "came out with equal bits every time they were made there."
            ),
            heading="platform",
            columns=names,
            rows=(*_each(found, keys), *(_published(audit, one, keys) for one in found.published)),
        ),
        Grid(
            title="Between platforms",
            caption=(
                "The same prompts and seeds on two platforms: the worst picture’s word, and how "
                "many are bit-exact; their latents too, where nothing else is said."
            ),
            heading="from one to the other",
            columns=names,
            rows=(*_between(found, keys), *(_unknown(one, keys) for one in found.published)),
        ),
    )


def remarks(audit: Audit) -> tuple[str, ...]:
    """What must be known to read the grids, a sentence each."""
    found = audit.cross_platform
    return () if found is None else tuple(_remarks(audit, found))


def _remarks(audit: Audit, found: CrossPlatform) -> Iterator[str]:
    yield (
        "An emulated platform is this machine with another number of threads or smaller CPU "
        "kernels: another machine’s caches, clock and memory are not in it, and its libraries may "
        "choose other kernels."
    )
    for name, reason in found.not_emulated.items():
        yield f"{name}: not emulated here, {reason}."
    names = {row.key: name_of(audit, row) for row in audit.scores}
    for platform in found.platforms:
        for figures in platform.figures:
            if figures.reason:
                yield f"{platform.name}, {names[figures.key]}: {figures.reason}"
            if figures.effect not in (None, "applied"):
                yield f"{platform.name}, {names[figures.key]}: its effect was {figures.effect}."
    for pair in found.pairs:
        if pair.reason:
            yield f"{pair.first} and {pair.second}, {names[pair.key]}: {pair.reason}"
    for published in found.published:
        yield f"{published.machine}: from {published.source}. {' '.join(published.limits)}"


def _each(found: CrossPlatform, keys: tuple[str, ...]) -> Iterator[GridRow]:
    for platform in found.platforms:
        by_key = {figures.key: figures for figures in platform.figures}
        yield GridRow(
            name=platform.name,
            label=platform.origin,
            cells=tuple(_figures(by_key.get(key)) for key in keys),
        )


def _figures(figures: PlatformFigures | None) -> Cell:
    if figures is None:
        return ("no run",)
    lines = ["not timed"]
    if time := figures.time_ratio:
        low, high = time.ci95
        unit = low == high == 1
        lines = ["1: the unit"] if unit else [ratio(time.median), f"{low:.2f}–{high:.2f}"]
    if figures.pictures:
        word = "repeats" if figures.repeated == figures.pictures else "does not repeat:"
        lines.append(f"{word} {figures.repeated}/{figures.pictures}")
    return tuple(lines)


def _published(audit: Audit, published: Published, keys: tuple[str, ...]) -> GridRow:
    """A machine's row, where it has a figure of our setting."""
    ratios = _ratios(audit, published)
    return GridRow(
        name=published.machine,
        label=PUBLISHED,
        cells=tuple(
            (ratio(ratios[key]), "one run", UNKNOWN) if key in ratios else ("not published",)
            for key in keys
        ),
    )


def _ratios(audit: Audit, published: Published) -> Mapping[str, float]:
    """Seconds ÷ those of their table's unit, by the key of our configuration."""
    found: dict[str, float] = {}
    for table in published.table:
        for line in table.row:
            for row in rows_with(audit, line.settings):
                found.setdefault(row.key, line.seconds / table.unit_seconds)
    return found


def _between(found: CrossPlatform, keys: tuple[str, ...]) -> Iterator[GridRow]:
    origins = {platform.name: platform.origin for platform in found.platforms}
    pairs: dict[tuple[str, str], dict[str, PlatformPair]] = {}
    for pair in found.pairs:
        pairs.setdefault((pair.first, pair.second), {})[pair.key] = pair
    for (first, second), by_key in pairs.items():
        both = {origins[first], origins[second]}
        yield GridRow(
            name=f"{first} → {second}",
            label=("both " if len(both) == 1 else "the second is ") + origins[second],
            cells=tuple(_pair(by_key.get(key)) for key in keys),
        )


def _pair(pair: PlatformPair | None) -> Cell:
    if pair is None or pair.drift is None:
        return ("not compared",)
    pictures = len(pair.drift.pictures)
    lines = [drift_words(pair.drift), f"{pair.equal}/{pictures} bit-exact"]
    if pair.equal_latents < pair.equal:
        lines.append(f"latents {pair.equal_latents}/{pictures}")
    if pair.drift.verdict != "bit-exact":
        lines.append(f"SSIM tile {similarity(pair.drift.ssim_worst_tile)}")
    return tuple(lines)


def _unknown(published: Published, keys: tuple[str, ...]) -> GridRow:
    return GridRow(
        name=f"any → {published.machine}",
        label=PUBLISHED,
        cells=((UNKNOWN,),) * len(keys),
    )
