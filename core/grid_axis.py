"""One axis of a grid: what is varied, and the values it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from core import noise, samplers, schedules
from core.grid_values import is_range, numbers, texts, whole_numbers
from core.optimizations import SLOTS
from core.request import Request

PROMPT = "prompt"
SIZE = "size"

Settings = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Values are texts, as they are shown; of `prompt` the first is what is searched for."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What an axis may vary."""

    name: str
    label: str
    example: str
    field: str = ""
    """Of the request; empty for `prompt`, `size` and the slots."""
    read: Callable[[str], Any] = str
    """A value's text as the field's own value; raises ValueError with a sentence."""
    several: Callable[[str], tuple[str, ...]] = texts
    """A line of values as their texts."""
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    """Every value there is, where they can be counted."""


FIELDS = (
    Kind(
        name=PROMPT,
        label="Prompt: search, replace",
        example="apple, pear, plum",
        aliases=("prompt s/r", "search"),
    ),
    Kind(
        name="seed", label="Seed", example="1-4", field="seed", read=int, several=whole_numbers
    ),
    Kind(
        name="steps",
        label="Steps",
        example="8, 20 or 4-20(+4)",
        field="num_inference_steps",
        read=int,
        several=whole_numbers,
        aliases=("num-inference-steps",),
    ),
    Kind(
        name="guidance-scale",
        label="Guidance scale",
        example="3, 5, 7 or 3-9[4]",
        field="guidance_scale",
        read=float,
        several=numbers,
        aliases=("cfg scale", "cfg", "guidance"),
    ),
    Kind(
        name="sampler",
        label="Sampler",
        example="Euler, DDIM",
        field="sampler",
        read=lambda text: samplers.find(text).name,
        choices=tuple(sampler.name for sampler in samplers.SAMPLERS),
    ),
    Kind(
        name="schedule",
        label="Schedule",
        example="Automatic, Karras",
        field="schedule",
        read=lambda text: schedules.find(text).name,
        aliases=("schedule type",),
        choices=tuple(schedule.name for schedule in schedules.SCHEDULES),
    ),
    Kind(name=SIZE, label="Size", example="128x128, 128x192"),
    Kind(
        name="width", label="Width", example="128, 192", field="width", read=int,
        several=whole_numbers,
    ),
    Kind(
        name="height", label="Height", example="128, 192", field="height", read=int,
        several=whole_numbers,
    ),
    Kind(
        name="variation-strength",
        label="Variation strength",
        example="0-0.4(+0.1)",
        field="variation_strength",
        read=float,
        several=numbers,
        aliases=("var. strength",),
    ),
    Kind(
        name="variation-seed",
        label="Variation seed",
        example="1-4",
        field="variation_seed",
        read=int,
        several=whole_numbers,
        aliases=("var. seed",),
    ),
    Kind(
        name="clip-skip", label="Clip skip", example="1, 2", field="clip_skip", read=int,
        several=whole_numbers,
    ),
    Kind(
        name="noise-source",
        label="Random numbers",
        example="CPU, NV",
        field="noise_source",
        read=noise.source,
        aliases=("rng",),
        choices=tuple(noise.SOURCES),
    ),
)  # fmt: skip


def _slot_values(line: str) -> tuple[str, ...]:
    """Value texts; numbers may come as a range, for the option of the slot that takes one."""
    return tuple(v for part in texts(line) for v in (numbers(part) if is_range(part) else (part,)))


KINDS = FIELDS + tuple(
    Kind(
        name=slot.name,
        label=slot.label,
        example=", ".join(option.name for option in slot.options[:3]),
        several=_slot_values,
        choices=tuple(option.name for option in slot.options),
    )
    for slot in SLOTS
)
"""Fields of the request first, then every slot."""


def kind(name: str) -> Kind:
    """By its name or an alias, in any case. Raises ValueError that lists the names."""
    wanted = " ".join(name.lower().replace("_", "-").split())
    for known in KINDS:
        if wanted in (known.name, known.label.lower(), *known.aliases):
            return known
    names = ", ".join(known.name for known in KINDS)
    raise ValueError(f"A grid has no axis {name.strip()!r}: choose one of {names}.")


def axis(name: str, line: str) -> Axis:
    """An axis from a line of values. Raises ValueError with a sentence for who typed it."""
    found = kind(name)
    try:
        values = tuple(_canonical(found, value) for value in found.several(line))
    except ValueError as error:
        raise ValueError(f"{found.label}: {error}") from None
    if found.name == PROMPT and len(values) < 2:
        raise ValueError(
            f"{found.label}: write first what is searched for, then what takes its place, as "
            "apple, pear."
        )
    return Axis(name=found.name, values=values)


def parsed(text: str) -> Axis:
    """An axis as it is written in a terminal: `steps=8,20`."""
    name, equals, line = text.partition("=")
    if not equals:
        raise ValueError(f"An axis is a name and its values, as steps=8,20, and not {text!r}.")
    return axis(name, line)


def put(
    request: Request, settings: Settings, axis: Axis, value: str
) -> tuple[Request, dict[str, str]]:
    """The request and the settings with one value of an axis in them.

    Raises ValueError where the text that is searched for stands in neither prompt.
    """
    found, changed = kind(axis.name), dict(settings)
    if found.name == PROMPT:
        return _replaced(request, axis.values[0], value), changed
    if found.name == SIZE:
        width, height = _sides(value)
        return replace(request, width=width, height=height), changed
    if found.field:
        return replace(request, **{found.field: found.read(value)}), changed
    changed[found.name] = value
    return request, changed


def _canonical(found: Kind, value: str) -> str:
    if found.name == SIZE:
        return "x".join(map(str, _sides(value)))
    if found.field and found.several is texts:
        return str(found.read(value))
    return value


def _replaced(request: Request, search: str, value: str) -> Request:
    """As AUTOMATIC1111 does, in both prompts."""
    if search not in request.prompt and search not in request.negative_prompt:
        raise ValueError(
            f"{search!r} stands in neither prompt, so there is nothing to replace: the first "
            "value of a prompt axis is searched for."
        )
    return replace(
        request,
        prompt=request.prompt.replace(search, value),
        negative_prompt=request.negative_prompt.replace(search, value),
    )


def _sides(text: str) -> tuple[int, int]:
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.strip().isdecimal() and height.strip().isdecimal()):
        raise ValueError(f"{text!r} is not a size: write width x height in pixels, as 128x192.")
    return int(width), int(height)
