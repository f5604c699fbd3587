"""Styles: pieces of prompts under a name, as AUTOMATIC1111 keeps them in a styles.csv."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

PLACE = "{prompt}"
"""Where in a style the prompt goes; without it the style comes after the prompt."""
HEADINGS = ("name", "prompt", "negative_prompt")
MOST_BYTES = 10**6
"""Of a styles file that is read."""
MOST_STYLES = 1000
MOST_NAME = 80
MOST_TEXT = 5000
"""Characters."""

_FORMULA = (*"=+-@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")
"""How a cell begins that a spreadsheet computes instead of showing it (OWASP, CSV injection)."""
_QUOTE = "'"


@dataclass(frozen=True, kw_only=True)
class Style:
    name: str
    prompt: str = ""
    negative_prompt: str = ""


def with_style(prompt: str, piece: str) -> str:
    """A prompt with a style's piece: in the place of `{prompt}`, else after a comma."""
    if PLACE in piece:
        return piece.replace(PLACE, prompt)
    parts = (part for part in (prompt.strip(), piece.strip()) if part)
    return ", ".join(parts)


def named(name: str) -> str:
    """A name as it is kept. Raises ValueError with a sentence."""
    kept = " ".join(name.split())
    if not kept or len(kept) > MOST_NAME:
        raise ValueError(f"Give it a name of 1 to {MOST_NAME} characters.")
    return kept


def checked(style: Style) -> Style:
    """A style that can be kept. Raises ValueError with a sentence."""
    name = named(style.name)
    if not (style.prompt.strip() or style.negative_prompt.strip()):
        raise ValueError(f"The style {name!r} is empty: write a piece of a prompt for it.")
    if max(len(style.prompt), len(style.negative_prompt)) > MOST_TEXT:
        raise ValueError(f"The style {name!r} is longer than {MOST_TEXT} characters: shorten it.")
    return Style(name=name, prompt=style.prompt, negative_prompt=style.negative_prompt)


def read_csv(data: bytes) -> tuple[Style, ...]:
    """Styles of a styles.csv, without rows that only head a group.

    The older heading `text` stands for `prompt`, as in AUTOMATIC1111. Raises ValueError with one
    sentence.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"A styles file has at most {MOST_BYTES // 1000} kB; this one is larger.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("This is not a styles.csv: it is not UTF-8 text.") from None
    try:
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise ValueError(f"This is not a styles.csv: {error}.") from None
    found = rows[0].keys() if rows else ()
    if "name" not in found or not {"prompt", "text"} & set(found):
        raise ValueError(
            f"This is not a styles.csv: its first line has to be {','.join(HEADINGS)}."
        )
    styles = {}
    for row in rows:
        prompt = _read(row.get("prompt") or row.get("text"))
        negative = _read(row.get("negative_prompt"))
        name = _read(row.get("name"))
        if name.strip() and (prompt.strip() or negative.strip()):
            style = checked(Style(name=name, prompt=prompt, negative_prompt=negative))
            styles[style.name] = style
    if len(styles) > MOST_STYLES:
        raise ValueError(f"These are {len(styles)} styles; at most {MOST_STYLES} are kept.")
    if not styles:
        raise ValueError("There is no style in this file.")
    return tuple(styles.values())


def write_csv(styles: Iterable[Style]) -> str:
    """The same file again. A cell that a spreadsheet would compute gets a quote before it, which
    `read_csv` takes away."""
    buffer = io.StringIO()
    # The line's end decides which characters in a cell make the writer put it into quotes.
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(HEADINGS)
    for style in styles:
        writer.writerow(map(_written, (style.name, style.prompt, style.negative_prompt)))
    return buffer.getvalue()


def _written(cell: str) -> str:
    bare = cell.lstrip(_QUOTE + " ")
    return _QUOTE + cell if cell.startswith(_FORMULA) or bare.startswith(_FORMULA) else cell


def _read(cell: object) -> str:
    text = cell if isinstance(cell, str) else ""
    bare = text.lstrip(_QUOTE + " ")
    return text[1:] if text.startswith(_QUOTE) and bare.startswith(_FORMULA) else text
