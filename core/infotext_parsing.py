"""The text that AUTOMATIC1111 and its kin write into pictures, taken apart as they do it.

The rules of v1.10.1 (`infotext_utils.py`): the last line holds `key: value` pairs where there are
three or more of them; a value in quotation marks is JSON; a line that begins with `Negative
prompt:` ends the prompt. What the pairs mean is said in `core.infotext_reading`.
"""

import json
import re
from dataclasses import dataclass

MOST_CHARACTERS = 64 * 1024
"""Of a text that is read; one of theirs has a few hundred."""

_NEGATIVE = "Negative prompt:"
_FEWEST_PAIRS = 3
_PAIR = re.compile(r'(\w[\w /-]{1,60}):\s*("(?:[^"\\]|\\.)*"|\{[^{}]*\}|[^,]*)(?:,|$)')
"""Values are quoted, or in braces (`Hashes`), or end at a comma."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """A text's parts, all as they stand there."""

    prompt: str
    negative_prompt: str
    pairs: dict[str, str]


def parse(text: str) -> Parameters:
    """The parts of a text. Raises ValueError with one sentence where it is none of theirs."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            f"The settings text has {len(text):,} characters; the most that is read is "
            f"{MOST_CHARACTERS:,}."
        )
    *lines, last = text.strip().split("\n")
    pairs = _pairs(last)
    if len(pairs) < _FEWEST_PAIRS:
        raise ValueError(
            "The picture's text does not end in settings as AUTOMATIC1111 writes them "
            "(Steps: 20, Sampler: Euler, …)."
        )
    prompts: dict[bool, list[str]] = {False: [], True: []}
    negative = False
    for line in (line.strip() for line in lines):
        if line.startswith(_NEGATIVE):
            negative, line = True, line.removeprefix(_NEGATIVE).strip()
        prompts[negative].append(line)
    return Parameters(
        prompt="\n".join(prompts[False]).strip(),
        negative_prompt="\n".join(prompts[True]).strip(),
        pairs=pairs,
    )


def _pairs(line: str) -> dict[str, str]:
    return {key.strip(): _unquoted(value.strip()) for key, value in _PAIR.findall(line)}


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        plain = json.loads(value)
    except ValueError:
        return value
    return plain if isinstance(plain, str) else value
