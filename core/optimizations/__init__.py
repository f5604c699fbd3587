"""All optimizations by slot, and the choice of at most one per slot."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from core.optimization import Configuration, Optimization, Slot, StepHook
from core.optimizations.attention import ATTENTION
from core.optimizations.compilation import COMPILE
from core.optimizations.guidance import MIN_SIGMA
from core.optimizations.guidance_batch import GUIDANCE_BATCH, SeparateHalves
from core.optimizations.layerwise_casting import LAYERWISE_CASTING
from core.optimizations.memory import ATTENTION_SLICING, VAE_SLICING, VAE_TILING
from core.optimizations.memory_format import MEMORY_FORMAT
from core.optimizations.numerics import (
    CUDNN_BENCHMARK,
    CUDNN_DETERMINISTIC,
    DETERMINISTIC_ALGORITHMS,
    TF32,
)
from core.optimizations.offload import OFFLOAD
from core.optimizations.precision import PRECISION
from core.optimizations.resolution import TWO_PASS, TwoPasses
from core.optimizations.slice_budget import SLICE_BUDGET
from core.optimizations.threads import THREADS
from core.optimizations.token_merging import TOKEN_MERGING
from core.platforms import Platform, one_sentence
from core.record import Record
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

SLOTS: tuple[Slot, ...] = (
    ATTENTION,
    SLICE_BUDGET,
    TOKEN_MERGING,
    MIN_SIGMA,
    PRECISION,
    TF32,
    CUDNN_BENCHMARK,
    CUDNN_DETERMINISTIC,
    DETERMINISTIC_ALGORITHMS,
    THREADS,
    ATTENTION_SLICING,
    VAE_SLICING,
    VAE_TILING,
    MEMORY_FORMAT,
    COMPILE,
    TWO_PASS,
    LAYERWISE_CASTING,
    OFFLOAD,
    GUIDANCE_BATCH,
)
OPTIMIZATIONS: tuple[Optimization, ...] = tuple(o for slot in SLOTS for o in slot.options)

OFF = ("off", "none", "0")


def configure(choices: Mapping[str, str], platform: Platform) -> Configuration:
    """A canonical configuration: validated, with the platform's defaults, without what is off.

    A value is `name`, `name:number` or, where a slot's first option takes a number, `number`. Slots
    that may do nothing take `off`, `none` and `0`, also as the number of a name. Raises ValueError
    with one sentence that says what to write instead. Slots are sorted by name, so that a slot
    that a later version adds moves no other.
    """
    names = [slot.name for slot in SLOTS]
    for name in choices:
        if name not in names:
            raise ValueError(f"There is no setting {name!r}: choose from {_listed(names)}.")
    settings = {}
    for slot in SLOTS:
        default = slot.default(platform)
        text = _canonical(slot, choices.get(slot.name, default), can_be_off=default == "off")
        if text != "off":
            settings[slot.name] = text
    return Configuration(tuple(sorted(settings.items())))


def _canonical(slot: Slot, text: str, can_be_off: bool) -> str:
    """One value text for everything that means the same."""
    name, colon, number = text.strip().lower().partition(":")
    option = next((o for o in slot.options if o.name == name), None)
    if option is None and can_be_off and not colon and name in OFF:
        return "off"
    if option is None and not colon and _is_number(name):
        option, number = next((o for o in slot.options if o.parameter), None), name
    if option is None:
        choices = _listed([o.name for o in slot.options] + ["off"] * can_be_off)
        raise ValueError(f"{slot.name} has no option {text!r}: choose from {choices}.")
    if option.parameter is None:
        if colon:
            raise ValueError(f"{slot.name}={option.name} takes no number: leave out {number!r}.")
        return option.name
    limits = option.parameter
    value = limits.default
    if number or colon:
        if not _is_number(number) or not limits.minimum <= float(number) <= limits.maximum:
            raise ValueError(
                f"{slot.name}={option.name} takes a {limits.label} from {limits.minimum:g} to "
                f"{limits.maximum:g}, not {number!r}."
            )
        value = float(number)
        if limits.stepped and (value - limits.minimum) % limits.step:
            raise ValueError(
                f"{slot.name}={option.name} takes a {limits.label} from {limits.minimum:g} in "
                f"steps of {limits.step:g}, not {number!r}."
            )
    return f"{option.name}:{value:g}" if value or not can_be_off else "off"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def chosen(configuration: Configuration) -> tuple[tuple[Optimization, float | None], ...]:
    """The options of a configuration with their numbers, in its order.

    Raises ValueError for a configuration of another version that this one does not know.
    """
    found = []
    for name, text in configuration:
        slot = next((slot for slot in SLOTS if slot.name == name), None)
        option_name, _, number = text.partition(":")
        option = next((o for o in slot.options if o.name == option_name), None) if slot else None
        if option is None:
            raise ValueError(
                f"This version has no {name}={text}: make the configuration again, "
                f"with {_listed([slot.name for slot in SLOTS])}."
            )
        found.append((option, float(number) if number else None))
    return tuple(found)


def availability(
    optimization: Optimization, platform: Platform, model: Path | None = None
) -> str | None:
    """None where a real call on the platform's device and in its dtype succeeded, else why not.

    What a model must ship is looked for in its folder, where one is given.
    """
    name = f"{optimization.slot}={optimization.name}"
    reason = platform.answers[name] if name in platform.answers else _tried(optimization, platform)
    if reason is None and optimization.lacks is not None and model is not None:
        return optimization.lacks(model)
    return reason


def _tried(optimization: Optimization, platform: Platform) -> str | None:
    if reason := platform.why_not(optimization.needs):
        return reason
    if optimization.probe is not None:
        try:
            optimization.probe(torch.device(platform.device), getattr(torch, platform.dtype))
        except Exception as error:
            return one_sentence(error)
    return None


def draws(configuration: Configuration) -> bool:
    """Whether an option takes random numbers that no request seeds. Never raises."""
    return any(
        option.draws and configuration.get(option.slot).partition(":")[0] == option.name
        for option in OPTIMIZATIONS
    )


def load_arguments(configuration: Configuration) -> dict[str, Any]:
    """What the chosen options pass to loading the pipeline."""
    return {key: value for option, _ in chosen(configuration) for key, value in option.load.items()}


def prepared_key(configuration: Configuration) -> str:
    """What has to be prepared, as text: pipelines may be shared only where it is equal."""
    return " ".join(
        f"{option.slot}={configuration.get(option.slot)}"
        for option, _ in chosen(configuration)
        if option.prepare is not None or option.place is not None
    )


def prepare(pipeline: "StableDiffusionPipeline", configuration: Configuration) -> None:
    """Change a freshly loaded pipeline for good."""
    for option, number in chosen(configuration):
        if option.prepare is not None:
            option.prepare(pipeline, number)


def place(
    pipeline: "StableDiffusionPipeline", configuration: Configuration, device: torch.device
) -> None:
    """Put a prepared pipeline onto the device, or as much of it as an option says."""
    for option, _ in chosen(configuration):
        if option.place is not None:
            option.place(pipeline, device)
            return
    # Where fp16 is offered on a CPU it was tried there: diffusers' warning that it can't run is
    # older than that.
    pipeline.to(device, silence_dtype_warnings=True)


class StepHooks:
    """Several hooks as one: a UNet call is guided unless one of them says no."""

    def __init__(
        self,
        hooks: list[StepHook],
        passes: TwoPasses | None = None,
        halves: SeparateHalves | None = None,
    ) -> None:
        self.hooks = hooks
        self.passes = passes
        """Set where the picture begins in another size."""
        self.halves = halves
        """Set where guidance's halves are computed one after the other."""

    def guided(self, call: int, sigma: float) -> bool:
        """Every hook is asked, also after a no: each keeps its own account of the calls."""
        answers = [hook.guided(call, sigma) for hook in self.hooks]
        return all(answers)


def _later(choice: tuple[Optimization, float | None]) -> bool:
    """What stands in the pipeline already comes first: compiled code makes itself ready before
    others look at what the UNet is given."""
    option, _ = choice
    return option.prepare is None


@contextmanager
def applied(pipeline: "StableDiffusionPipeline", job: Job, record: Record) -> Iterator[StepHooks]:
    """Every chosen option's patch around one job; an exception inside unwinds all of them."""
    options = chosen(job.configuration)
    for option, _ in options:
        record.slot(option.slot, job.configuration.get(option.slot))
    with ExitStack() as stack:
        hooks: list[StepHook] = []
        passes = halves = None
        for option, number in options:
            if option.surround is not None:
                stack.enter_context(option.surround(number))
        for option, number in sorted(options, key=_later):
            if option.patch is not None:
                hook = stack.enter_context(option.patch(pipeline, job, number, record))
                if isinstance(hook, TwoPasses):
                    passes = hook
                elif isinstance(hook, SeparateHalves):
                    halves = hook
                elif hook is not None:
                    hooks.append(hook)
        yield StepHooks(hooks, passes, halves)
