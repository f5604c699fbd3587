"""Prompts as people write them: AUTOMATIC1111's weights, escapes, BREAK and comments.

The behaviour of its v1.10.1 (`prompt_parser.parse_prompt_attention`, `processing_scripts/comments`,
`extra_networks`), quirks included: a prompt is handed on together with the picture that it made
there. What of its syntax Seedproof does not do is refused in one sentence, never taken for words.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple, get_args

from core.request import PromptSyntax, Request

ROUND, SQUARE = 1.1, 1 / 1.1
"""What one pair of brackets multiplies a weight by."""
MOST_CHARACTERS = 10_000
"""Of one prompt."""
MOST_OPEN = 100
"""Brackets open at once."""


class Piece(NamedTuple):
    """Words that share a weight, as `parse_prompt_attention` gives them."""

    text: str
    weight: float


BREAK = Piece("BREAK", -1.0)
"""Ends a chunk. Inside brackets its weight is multiplied like any other's, and there it is no
longer this: AUTOMATIC1111 then reads the word."""

_MARKS = re.compile(
    r"""
    \\ (?P<escaped> [()\[\]\\]? )            # a backslash goes, whatever follows
    | (?P<opened> [(\[] )
    | : \s* (?P<weight> [-+]?[\d.]+ ) \s* \)
    | (?P<closed> [)\]] )
    | (?P<words> : | [^\\()\[\]:]+ )
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")
_COMMENT = re.compile(r"#[^\n]*(?:\n|$)")
_NETWORK = re.compile(r"<\w+:[^>]+>")
_AND = re.compile(r"\bAND\b")
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)"
_LAST_WEIGHT = re.compile(rf":\s*{_NUMBER}\s*$")
_WHEN = re.compile(rf"\s*{_NUMBER}(?:[eE][-+]?\d+)?\s*")
_PLAIN = "or choose the prompt syntax plain"


def find_syntax(name: str) -> PromptSyntax:
    """Raises ValueError that lists the names."""
    for known in get_args(PromptSyntax):
        if name == known:
            found: PromptSyntax = known
            return found
    names = " or ".join(get_args(PromptSyntax))
    raise ValueError(f"Unknown prompt syntax {name!r}: choose {names}.")


def check_prompts(request: Request) -> None:
    """Refuse what is no prompt in the request's syntax. Raises ValueError with one sentence."""
    for text, what in (
        (request.prompt, "prompt"),
        (request.negative_prompt, "negative prompt"),
    ):
        if request.prompt_syntax == "a1111":
            read(text, what)
        else:
            require_short(text, what)


def require_short(text: str, what: str) -> None:
    """Raises ValueError where a prompt is longer than anybody types."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            f"The {what} has {len(text):,} characters and the most that is read is "
            f"{MOST_CHARACTERS:,}: shorten it."
        )


def read(text: str, what: str) -> tuple[tuple[Piece, ...], tuple[str, ...]]:
    """The pieces of a `prompt` or `negative prompt`, and notes on what will surprise in them.

    Raises ValueError with one sentence for what Seedproof does not do.
    """
    require_short(text, what)
    words = _COMMENT.sub("\n", text)
    pieces = weighted(words)
    if reason := next(_refusals(words, what), ""):
        raise ValueError(reason)
    notes = []
    if words != text:
        hidden = _short(next(_COMMENT.finditer(text))[0].strip())
        notes.append(
            f"The {what} has a comment, {hidden!r}: from a # to the end of its line nothing "
            "reaches the picture, as in AUTOMATIC1111."
        )
    if any(piece.text == BREAK.text and piece != BREAK for piece in pieces):
        notes.append(
            f"The {what} has a BREAK inside brackets, where it is a word and ends no chunk, as in "
            "AUTOMATIC1111: close the brackets before it."
        )
    return pieces, tuple(notes)


def weighted(text: str) -> tuple[Piece, ...]:
    """Text and weight by weight, BREAK between: what `parse_prompt_attention` returns.

    Brackets that nobody closes count to the end; those that nobody opened are text. Products are
    formed from the innermost bracket outwards, so that weights are equal to the last bit. Raises
    ValueError for a weight that is not a number.
    """
    texts, weights = list[str](), list[float]()
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def add(words: str, weight: float = 1.0) -> None:
        texts.append(words)
        weights.append(weight)

    def multiply(start: int, factor: float) -> None:
        weights[start:] = [weight * factor for weight in weights[start:]]

    for mark in _MARKS.finditer(text):
        found = mark[0]
        if mark.lastgroup == "escaped":
            add(mark["escaped"])
        elif mark.lastgroup == "opened":
            opened[found].append(len(texts))
            if sum(map(len, opened.values())) > MOST_OPEN:
                raise ValueError(f"More than {MOST_OPEN} brackets of a prompt are open at once.")
        elif mark.lastgroup == "weight" and opened["("]:
            multiply(opened["("].pop(), _number(mark["weight"]))
        elif found == ")" and opened["("]:
            multiply(opened["("].pop(), ROUND)
        elif found == "]" and opened["["]:
            multiply(opened["["].pop(), SQUARE)
        else:
            parts = _BREAK.split(found)
            for place, part in enumerate(parts):
                if place:
                    add(*BREAK)
                    part = part.lstrip()
                add(part.rstrip() if place + 1 < len(parts) else part)
    for bracket, factor in (("(", ROUND), ("[", SQUARE)):
        for start in opened[bracket]:
            multiply(start, factor)
    runs = groupby(zip(texts, weights, strict=True), key=lambda pair: pair[1])
    pieces = tuple(Piece("".join(words for words, _ in run), weight) for weight, run in runs)
    return pieces or (Piece("", 1.0),)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"The weight {_short(text)!r} in a prompt is not a number: write one as in (words:0.8)."
        ) from None


def _refusals(text: str, what: str) -> Iterator[str]:
    """What AUTOMATIC1111 would do with a text and Seedproof does not."""
    if network := _NETWORK.search(text):
        yield (
            f"The {what} has {_short(network[0])}, and Seedproof loads no networks that a prompt "
            "names: leave it out, or choose a model that has it merged in."
        )
    for start, end in _square_groups(text):
        group = text[start:end]
        if kind := _changing(group):
            yield (
                f"The {what} has {_short(group)}, AUTOMATIC1111's {kind}, which Seedproof does not "
                "do: write the words for all steps, with round brackets for a weight, as in "
                f"(words:0.8), {_PLAIN}."
            )
    if what == "prompt" and _AND.search(text):
        yield (
            "The prompt has AND, which in AUTOMATIC1111 joins prompts that are predicted each for "
            "itself, and Seedproof does not do that: write a comma or a small and, "
            f"{_PLAIN}."
        )
    if what == "prompt" and (last := _LAST_WEIGHT.search(text)):
        yield (
            f"The prompt ends in {_short(last[0].strip())}, in AUTOMATIC1111 the weight of all of "
            "it, and Seedproof does not do that: put what it belongs to in brackets, as in "
            f"(words:1.2), or a comma behind it, {_PLAIN}."
        )


def _square_groups(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every `[…]` in which all brackets are closed, the inner ones first."""
    opened: list[int] = []
    for mark in re.finditer(r"\\.|[()\[\]]", text):
        bracket = mark[0]
        if bracket in ("(", "["):
            opened.append(mark.start())
        elif bracket in (")", "]"):
            if opened and text[opened[-1]] + bracket in ("()", "[]"):
                start = opened.pop()
                if bracket == "]":
                    yield start, mark.end()
            else:
                # A bracket that closes nothing: no pair reaches over it.
                opened.clear()


def _changing(group: str) -> str:
    """What a `[…]` does while a picture is made; empty where it only lowers a weight."""
    own, depth = "", 0
    for mark in re.finditer(r"\\.|.", group[1:-1], re.DOTALL):
        depth -= mark[0] in (")", "]")
        own += mark[0] if depth == 0 and len(mark[0]) == 1 else "x"
        depth += mark[0] in ("(", "[")
    if "|" in own:
        return "" if ":" in own else "alternating words"
    *words, when = own.split(":")
    return "prompt editing (other words from a step on)" if _is_when(words, when) else ""


def _is_when(words: list[str], when: str) -> bool:
    return 1 <= len(words) <= 2 and _WHEN.fullmatch(when) is not None


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
