"""Options that commands have from elsewhere: one for each slot, and one for each field of a
request. None of them has a default here: what is left out is decided where it is known."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from core.noise import SOURCES
from core.samplers import SAMPLERS
from core.schedules import SCHEDULES

Command = Callable[..., None]

FIELDS: tuple[tuple[str, type, str, float | None], ...] = (
    ("prompt_syntax", str, "a1111: weights, BREAK, any length; or plain.", None),
    ("seed", int, "Picture i has seed + i; 0 if left out.", 0),
    ("num_inference_steps", int, "Denoising steps; 20 if left out.", 1),
    ("guidance_scale", float, "1 or less: no guidance; 7 if left out.", None),
    ("width", int, "Pixels; the model's own if left out.", None),
    ("height", int, "Pixels; the model's own if left out.", None),
    ("sampler", str, f"{', '.join(sampler.name for sampler in SAMPLERS)}.", None),
    ("schedule", str, f"{', '.join(schedule.name for schedule in SCHEDULES)}.", None),
    ("noise_source", str, f"{', '.join(SOURCES)} (an NVIDIA GPU's, on the CPU).", None),
    ("variation_strength", float, "From 0 to 1: how far towards another noise.", None),
    ("variation_seed", int, "That noise's seed; picture i has this + i.", 0),
    ("eta_noise_seed_delta", int, "ENSD: for the noise that Euler a adds.", 0),
    ("clip_skip", int, "Layer of the text encoder, counted from the last, 1.", 1),
)
"""Fields of a request: name, type, help and the least value. Prompts are the commands' own."""


def with_slots(command: Command) -> Command:
    """Give a command one option for each slot, collected into its argument `settings`."""
    from core.optimizations import SLOTS

    options = {
        slot.name: typer.Option(
            f"--{slot.name}",
            metavar="NAME" if all(o.parameter is None for o in slot.options) else "VALUE",
            help=f"{slot.label}: {', '.join(o.name for o in slot.options)}.",
        )
        for slot in SLOTS
    }
    return _collected(command, "settings", {name: (str, o) for name, o in options.items()})


def with_fields(command: Command) -> Command:
    """Give a command one option for each of `FIELDS`, collected into its argument `fields`."""
    options = {
        name: (
            kind,
            typer.Option(
                f"--{name.replace('_', '-')}",
                metavar="NAME" if kind is str else None,
                help=help,
                min=least,
            ),
        )
        for name, kind, help, least in FIELDS
    }
    return _collected(command, "fields", options)


def _collected(command: Command, argument: str, options: Mapping[str, tuple[type, Any]]) -> Command:
    """The command with these options in place of an argument, which is given those that were
    written, by name."""
    names = {key: key.replace("-", "_") for key in options}
    signature = inspect.signature(command)

    def collecting(**arguments: Any) -> None:
        written = {key: arguments.pop(name) for key, name in names.items()}
        command(**{argument: {k: v for k, v in written.items() if v is not None}}, **arguments)

    own = [p for p in signature.parameters.values() if p.name != argument]
    added = [
        inspect.Parameter(
            names[key],
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, option],
        )
        for key, (kind, option) in options.items()
    ]
    collecting.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + added
    )
    collecting.__name__, collecting.__doc__ = command.__name__, command.__doc__
    return collecting
