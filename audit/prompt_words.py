"""What a prompt asks for, where it is written in the words that a model was trained with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Position = Literal["", "on the left", "on the right"]
POSITIONS: tuple[Position, ...] = ("on the left", "on the right")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A model's words: `a [small] [TINT] OBJECT [POSITION], STYLE style, BACKGROUND background`,
    or two objects joined by "and", which stand left and right in that order."""

    objects: tuple[str, ...]
    styles: tuple[str, ...]
    tints: tuple[str, ...]
    backgrounds: Mapping[str, tuple[int, int, int]]
    """Word → sRGB, 0…255."""
    small_up_to: float
    """What "small" means: an object's longer side is at most this share of the picture's shorter
    one."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object that is asked for; an empty `tint` or `position` is left open."""

    name: str
    tint: str = ""
    position: Position = ""
    small: bool = False


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One thing, or two from left to right; an empty `style` or `background` is left open."""

    things: tuple[Thing, ...]
    style: str = ""
    background: str = ""


def asked(prompt: str, words: Vocabulary) -> Asked | None:
    """What the prompt asks for, or None where it says anything that is not in the vocabulary.

    Nobody could say whether a picture follows a word whose meaning is unknown, so that one such
    word leaves the whole prompt unread. Capitals and spaces do not matter.
    """
    first, *rest = (part.strip() for part in " ".join(prompt.lower().split()).split(","))
    things = tuple(_thing(phrase, words) for phrase in first.split(" and "))
    known = tuple(thing for thing in things if thing is not None)
    if len(known) != len(things) or len(known) > 2:
        return None
    if len(known) == 2 and any(thing.position or thing.small for thing in known):
        return None
    style = background = ""
    for part in rest:
        word, _, kind = part.rpartition(" ")
        if kind == "style" and word in words.styles and not style:
            style = word
        elif kind == "background" and word in words.backgrounds and not background:
            background = word
        else:
            return None
    return Asked(things=known, style=style, background=background)


def _thing(phrase: str, words: Vocabulary) -> Thing | None:
    """`a [small] [tint] name [position]`."""
    position: Position = next((p for p in POSITIONS if phrase.endswith(f" {p}")), "")
    phrase = phrase.removesuffix(position).strip()
    article, _, phrase = phrase.partition(" ")
    if article not in ("a", "an"):
        return None
    small = phrase.startswith("small ")
    phrase = phrase.removeprefix("small ")
    if phrase in words.objects:
        return Thing(name=phrase, position=position, small=small)
    tint, _, name = phrase.partition(" ")
    # A tint replaces the colour in an object's own name: "a blue apple" asks for "red apple".
    names = (name, *(f"{other} {name}" for other in words.tints))
    found = next((n for n in names if n in words.objects), None)
    if tint not in words.tints or found is None:
        return None
    return Thing(name=found, tint=tint, position=position, small=small)
