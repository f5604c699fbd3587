"""A configuration in the words of another program, with what that program cannot be told."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from core.optimization import Configuration

Language = Literal["shell", "json", "yaml", "text", "python"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One text to copy, and where it goes."""

    where: str
    language: Language
    text: str


@dataclass(frozen=True, kw_only=True)
class Export:
    """A configuration for one program.

    - `checked`: the version whose code the names were read from.
    - `parts`: what to copy, in the order to do it.
    - `carried` and `lost`: what every setting becomes there, or why it becomes nothing.
    - `remarks`: what is not the same all the same.
    - `same_pixels`: whether the other program is meant to give our pixels, bit for bit.
    """

    program: str
    checked: str
    parts: tuple[Part, ...]
    carried: tuple[tuple[str, str], ...] = ()
    lost: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    same_pixels: bool = False


@dataclass(frozen=True, kw_only=True)
class Saying:
    """How a program is told one value of a slot. Nothing of it means that it does so anyway.

    `{n}` stands for the value's number in `flag`, `node` and `remark`; a setting that is `{n}` is
    that number.
    """

    flag: str = ""
    settings: Mapping[str, object] | None = None
    node: str = ""
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class Program:
    """Another program's vocabulary: slot and option name → how it is said there."""

    name: str
    checked: str
    sayings: Mapping[tuple[str, str], Saying]
    never: Mapping[str, str]
    """Why a slot's other values cannot be said, where there is more to say than that."""
    always: Saying
    """What makes the rest comparable, whatever the configuration is."""
    flags_go: str = ""
    settings_go: str = ""
    nodes_go: str = ""
    settings_language: Literal["json", "yaml"] = "json"


def told(program: Program, configuration: Configuration) -> Export:
    """The configuration as this program is told it."""
    said = [program.always]
    carried, lost = [], []
    for slot, text in configuration:
        name, _, number = text.partition(":")
        saying = program.sayings.get((slot, name))
        if saying is None:
            why = program.never.get(slot, f"{program.name} has no such setting")
            lost.append((f"{slot}={text}", why))
            continue
        filled = _filled(saying, number)
        said.append(filled)
        carried.append((f"{slot}={text}", _words(filled)))
    return Export(
        program=program.name,
        checked=program.checked,
        parts=_parts(program, said),
        carried=tuple(carried),
        lost=tuple(lost),
        remarks=tuple(dict.fromkeys(saying.remark for saying in said if saying.remark)),
    )


def _filled(saying: Saying, number: str) -> Saying:
    def fill(value: object) -> object:
        if value == "{n}":
            return float(number) if "." in number else int(number or 0)
        return value

    return Saying(
        flag=saying.flag.replace("{n}", number),
        settings={key: fill(value) for key, value in (saying.settings or {}).items()},
        node=saying.node.replace("{n}", number),
        remark=saying.remark.replace("{n}", number),
    )


def _words(saying: Saying) -> str:
    said = [saying.flag, *(f"{key}: {value}" for key, value in (saying.settings or {}).items())]
    return ", ".join(part for part in (*said, saying.node) if part) or "see below"


def _parts(program: Program, said: list[Saying]) -> tuple[Part, ...]:
    flags = " ".join(saying.flag for saying in said if saying.flag)
    settings = {key: value for saying in said for key, value in (saying.settings or {}).items()}
    nodes = "\n".join(saying.node for saying in said if saying.node)
    found = []
    if flags:
        found.append(Part(where=program.flags_go, language="shell", text=flags))
    if settings:
        text = (
            json.dumps(settings, indent=2)
            if program.settings_language == "json"
            else _yaml(settings)
        )
        found.append(Part(where=program.settings_go, language=program.settings_language, text=text))
    if nodes:
        found.append(Part(where=program.nodes_go, language="text", text=nodes))
    return tuple(found)


def _yaml(settings: Mapping[str, object]) -> str:
    """Plain scalars only, which every version of YAML reads alike."""
    words = {True: "true", False: "false"}
    return "\n".join(
        f"{key}: {words[value] if isinstance(value, bool) else value}"
        for key, value in settings.items()
    )
