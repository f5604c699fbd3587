"""Several values in one line, as people type them for AUTOMATIC1111's X/Y/Z plot.

`1, 2, 3` lists; `1-5` is every whole number; `1-9(+2)` has a step; `1-10[4]` has a count, evenly
spread. A text with a comma in it is quoted, as in CSV.
"""

import csv
import math
import re

MOST_VALUES = 100
"""On one axis."""

_NUMBER = r"\s*([+-]?\d*\.?\d+)\s*"
_STEPPED = re.compile(rf"{_NUMBER}-{_NUMBER}(?:\(\s*([+-]\d*\.?\d+)\s*\))?\s*")
_COUNTED = re.compile(rf"{_NUMBER}-{_NUMBER}\[\s*(\d{{1,9}})\s*\]\s*")


def texts(line: str) -> tuple[str, ...]:
    """The parts between commas, without what is empty. Raises ValueError where there is none."""
    try:
        row = next(csv.reader([line.replace("\n", " ")], skipinitialspace=True, strict=True), [])
    except csv.Error:
        raise ValueError(f"In {line!r} a quotation mark is not closed: close it.") from None
    parts = tuple(part.strip() for part in row if part.strip())
    if not parts:
        raise ValueError("There is no value: write one or more, with commas between them.")
    return _limited(parts)


def whole_numbers(line: str) -> tuple[str, ...]:
    """Whole numbers and their ranges. Raises ValueError with a sentence for who typed them."""
    return _limited(tuple(value for part in texts(line) for value in _range(part, whole=True)))


def numbers(line: str) -> tuple[str, ...]:
    """Numbers and their ranges. Raises ValueError with a sentence for who typed them."""
    return _limited(tuple(value for part in texts(line) for value in _range(part, whole=False)))


def is_range(part: str) -> bool:
    """Whether a text stands for several numbers."""
    return bool(_STEPPED.fullmatch(part) or _COUNTED.fullmatch(part))


def _range(part: str, *, whole: bool) -> list[str]:
    if found := _COUNTED.fullmatch(part):
        first, last, count = float(found[1]), float(found[2]), int(found[3])
        return _spread(part, first, last, count, whole)
    if found := _STEPPED.fullmatch(part):
        first, last = float(found[1]), float(found[2])
        step = float(found[3]) if found[3] else math.copysign(1, last - first)
        return _stepped(part, first, last, step, whole)
    try:
        value = float(part)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"{part!r} is not a number: write numbers as 8, 20, or a range as 1-5, 1-9(+2) or "
            "1-10[4]."
        )
    if whole and not re.fullmatch(r"[+-]?\d+", part):
        raise ValueError(f"{part!r} is not a whole number: leave out the fraction.")
    return [str(int(part)) if whole else f"{value:g}"]


def _stepped(part: str, first: float, last: float, step: float, whole: bool) -> list[str]:
    """From `first` on, up to and with `last` where a step ends there."""
    if step == 0 or (last - first) * step < 0:
        raise ValueError(f"The range {part!r} has no value: its step leads away from its end.")
    # A tenth added ten times is not quite one: the end counts within a millionth of a step.
    count = math.floor((last - first) / step + 1e-6) + 1
    _check_count(part, count)
    return [_written(part, first + step * number, whole) for number in range(count)]


def _spread(part: str, first: float, last: float, count: int, whole: bool) -> list[str]:
    _check_count(part, count)
    if count < 1:
        raise ValueError(f"The range {part!r} has no value: ask for at least one.")
    gap = (last - first) / (count - 1) if count > 1 else 0.0
    values = [first + gap * number for number in range(count)]
    return [_written(part, float(int(value)) if whole else value, whole) for value in values]


def _written(part: str, value: float, whole: bool) -> str:
    if whole and not value.is_integer():
        raise ValueError(f"The range {part!r} is not of whole numbers: leave out the fractions.")
    return str(int(value)) if whole else f"{value:.6g}"


def _check_count(part: str, count: int) -> None:
    if count > MOST_VALUES:
        raise ValueError(
            f"{part!r} is {count:,} values; one axis takes at most {MOST_VALUES}: choose a larger "
            "step, or a count as 1-100[5]."
        )


def _limited(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(values) > MOST_VALUES:
        raise ValueError(
            f"These are {len(values):,} values; one axis takes at most {MOST_VALUES}: leave some "
            "out."
        )
    return values
