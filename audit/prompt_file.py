"""Prompts and seeds as files of one's own: plain text, CSV or TOML."""

import csv
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

SEEDS = 2**32
"""Seeds are below this, as everywhere in the product."""


class PlanError(ValueError):
    """A plan that cannot be used; one sentence per mistake, each on its own line."""


SHAPE = ConfigDict(extra="forbid", strict=True, frozen=True)
"""Of every part of a file: no other keys, no conversions."""

_AnyTable = TypeVar("_AnyTable")
_Found = TypeVar("_Found")


class _Table(BaseModel):
    model_config = SHAPE


class Prompt(_Table):
    name: Annotated[str, Field(min_length=1)]
    prompt: Annotated[str, Field(min_length=1)]
    negative_prompt: str = ""


class _Prompts(_Table):
    prompt: list[Prompt] = []


class _Seeds(_Table):
    seeds: list[Annotated[int, Field(ge=0, lt=SEEDS)]]


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a file, each with a name of its own. Raises PlanError.

    `.txt`: one per line, named by its number; empty lines and those that begin with `#` do not
    count. `.csv`: a column `prompt`, perhaps `negative_prompt` and `name`. `.toml`: `[[prompt]]`
    tables with these keys, as in `data/prompts.toml`.
    """
    found = _by_kind(path, "prompts", _prompt_lines, _prompt_rows, _prompt_tables)
    names = [prompt.name for prompt in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PlanError(f"{path}: two prompts are called {twice!r}; give each a name of its own.")
    return found


def read_seeds(path: Path) -> tuple[int, ...]:
    """The seeds of a file, none twice. Raises PlanError.

    `.txt`: one per line, as prompts are. `.csv`: a column `seed`. `.toml`: `seeds = [7, 8]`.
    """
    found = _by_kind(
        path,
        "seeds",
        lambda file: tuple(_seed(file, n, line) for n, line in _lines(file)),
        lambda file: tuple(_seed(file, n, row["seed"]) for n, row in _rows(file, "seed")),
        lambda file: tuple(in_shape(file, read_toml(file), _Seeds).seeds),
    )
    if twice := [seed for n, seed in enumerate(found) if seed in found[:n]]:
        raise PlanError(
            f"{path}: the seed {twice[0]} is there twice, and a picture made twice is one trial."
        )
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as it is. Raises PlanError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"{path}: not a readable TOML file ({error}).") from None


def in_shape(path: Path, content: dict[str, Any], kind: type[_AnyTable]) -> _AnyTable:
    """A TOML file's content, in the shape it must have. Raises PlanError."""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        mistakes = (f"{path}: {_sentence(mistake)}" for mistake in error.errors())
        raise PlanError("\n".join(mistakes)) from None


def _by_kind(
    path: Path,
    what: str,
    text: Callable[[Path], tuple[_Found, ...]],
    table: Callable[[Path], tuple[_Found, ...]],
    toml: Callable[[Path], tuple[_Found, ...]],
) -> tuple[_Found, ...]:
    """What a file lists, by its suffix; at least one entry."""
    readers = {".txt": text, ".csv": table, ".toml": toml}
    if (read := readers.get(path.suffix.lower())) is None:
        raise PlanError(f"{path}: {what} come as a .txt, .csv or .toml file.")
    if found := read(path):
        return found
    raise PlanError(f"{path}: there are no {what} in it.")


def _prompt_lines(path: Path) -> tuple[Prompt, ...]:
    lines = enumerate((line for _, line in _lines(path)), 1)
    return tuple(Prompt(name=str(number), prompt=line) for number, line in lines)


def _prompt_rows(path: Path) -> tuple[Prompt, ...]:
    found: list[Prompt] = []
    for number, row in _rows(path, "prompt"):
        if not row["prompt"]:
            raise PlanError(f"{path}: line {number} has no prompt.")
        name, negative = row.get("name") or str(len(found) + 1), row.get("negative_prompt") or ""
        found.append(Prompt(name=name, prompt=row["prompt"], negative_prompt=negative))
    return tuple(found)


def _prompt_tables(path: Path) -> tuple[Prompt, ...]:
    return tuple(in_shape(path, read_toml(path), _Prompts).prompt)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: not a readable text file ({error}).") from None


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that count, with their numbers."""
    lines = ((n, line.strip()) for n, line in enumerate(_text(path).splitlines(), 1))
    return [(n, line) for n, line in lines if line and not line.startswith("#")]


def _rows(path: Path, column: str) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table that must have this column, with their lines' numbers."""
    reader = csv.DictReader(_text(path).splitlines(), restval="", skipinitialspace=True)
    if column not in (reader.fieldnames or ()):
        raise PlanError(f"{path}: its first line names no column {column!r}.")
    rows = []
    for row in reader:
        if None in row:
            raise PlanError(f"{path}: line {reader.line_num} has more fields than columns.")
        rows.append((reader.line_num, {name: value.strip() for name, value in row.items()}))
    return rows


def _seed(path: Path, number: int, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) >= SEEDS:
        raise PlanError(
            f"{path}: line {number} is {text!r}, and a seed is a whole number from 0 to "
            f"{SEEDS - 1}."
        )
    return int(text)


def _sentence(mistake: Any) -> str:
    """One of pydantic's error records as a sentence, with the place as TOML spells it."""
    place = ".".join(str(part + 1 if isinstance(part, int) else part) for part in mistake["loc"])
    match mistake["type"]:
        case "missing":
            return f"{place} is missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{place} is not a key that such a file has"
        case _:
            message = mistake["msg"].removeprefix("Input ")
            return f"{place} {message}, and is {mistake['input']!r}"
