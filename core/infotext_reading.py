"""What the text of AUTOMATIC1111 and its kin means here: a request, settings, and what is left.

A value that is missing there is understood as that program understands it (v1.10.1), not as our
own default: no `RNG` is its GPU, no `Schedule type` its sampler's usual one.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from core import samplers, schedules
from core.hires_reading import TwoPasses, two_passes
from core.infotext_parsing import Parameters, parse
from core.models import native_size, size_step, text_layers
from core.noise import SOURCES
from core.optimizations.guidance import MINIMUM_SIGMA
from core.optimizations.token_merging import RATIO
from core.prompt_syntax import check_prompts
from core.receipt import MOST_SIDE
from core.request import MOST_DELTA, MOST_SEED, Model, NoiseSource, PromptSyntax, Request
from core.schedules import AUTOMATIC, KARRAS
from core.takeover import Remark, Taken, other_model

_OURS = "Seedproof"
_UNIFORM = "Uniform"
_EXTRA_NETWORK = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_OWN_TIMESTEPS = ("DDIM", "UniPC")
"""Samplers that A1111 gives no schedule, whatever its menu says."""
_NUMBERS: tuple[tuple[str, str, Callable[[str], float], float, float], ...] = (
    ("Steps", "num_inference_steps", int, 1, samplers.MOST_STEPS),
    ("CFG scale", "guidance_scale", float, 0, 1000),
    ("Seed", "seed", int, 0, MOST_SEED),
    ("Variation seed", "variation_seed", int, 0, MOST_SEED),
    ("Variation seed strength", "variation_strength", float, 0, 1),
    ("ENSD", "eta_noise_seed_delta", int, 0, MOST_DELTA),
)
_ABOUT_NO_PICTURE = ("Version", "User", "Created Date", "Time taken")
"""Keys that say nothing about how a picture is computed."""
_WHY = (
    ("Hires", "both passes have the same settings here"),
    ("Token merging ratio hr", "both passes have the same settings here"),
    ("Denoising strength", "a picture is made from noise alone here"),
    ("Init image", "a picture is made from noise alone here"),
    ("Mask", "a picture is made from noise alone here"),
    ("Inpaint", "a picture is made from noise alone here"),
    ("Seed resize from", "the noise has the picture's own size here"),
    ("VAE", "the model's own VAE is used here"),
    ("Lora", "nothing beside the model is loaded here"),
    ("TI hashes", "nothing beside the model is loaded here"),
    ("Hashes", "nothing beside the model is loaded here"),
    ("Hypernet", "nothing beside the model is loaded here"),
    ("ControlNet", "nothing but the prompts guides a picture here"),
    ("Refiner", "one model makes the whole picture here"),
    ("Eta", "samplers add their usual amount of noise here"),
    ("Sigma", "samplers add their usual amount of noise here"),
    ("Node", "nodes of another program do not run here"),
    ("Skip Early CFG", "guidance is left out near the end alone here"),
)
"""Beginnings of keys that are known and have no equal here."""


def from_infotext(text: str, model: Model) -> Taken:
    """What the text says that has an equal here. Raises ValueError where it is no such text."""
    parameters = parse(text)
    ours = parameters.pairs.get("Version", "").startswith(_OURS)
    return from_parameters(parameters, model, exact=ours)


def from_parameters(parameters: Parameters, model: Model, *, exact: bool) -> Taken:
    """The same from a text's parts. `exact`: they mean what they mean here, and not what they mean
    to A1111; what is not said is what is usual here."""
    reading = _Reading(parameters.pairs, model, exact)
    sampler, schedule = reading.sampler()
    request = Request(
        prompt=reading.prompt("Prompt", parameters.prompt),
        negative_prompt=reading.prompt("Negative prompt", parameters.negative_prompt),
        prompt_syntax=reading.syntax(),
        model=model,
        sampler=sampler,
        schedule=schedule,
        noise_source=reading.noise_source(),
        **reading.size(),
        **reading.numbers(),
    )
    hires = reading.hires(request)
    taken = Taken(
        request=reading.readable(reading.acting(hires.request)),
        settings={**reading.merging(), **reading.minimum_sigma(), **hires.settings},
        program=reading.version,
    )
    reading.model()
    reading.rest()
    return replace(taken, remarks=tuple(reading.remarks))


class _Reading:
    """The pairs of one text, each taken out by who understands it, and the remarks on the way."""

    def __init__(self, pairs: dict[str, str], model: Model, exact: bool) -> None:
        self._pairs = dict(pairs)
        self._model = model
        self.remarks: list[Remark] = []
        self.version = pairs.get("Version", "")
        self._ours = exact

    def prompt(self, key: str, text: str) -> str:
        for tag in _EXTRA_NETWORK.findall(text):
            self._leave(key, tag, "nothing beside the model is loaded here")
        return _EXTRA_NETWORK.sub("", text).strip()

    def syntax(self) -> PromptSyntax:
        """How the prompts are read. Without emphasis A1111 still cuts them into chunks."""
        emphasis = self._pairs.pop("Emphasis", "Original")
        padded = self._pairs.pop("Pad conds", "")
        if self._ours:
            return "plain" if emphasis == "None" else "a1111"
        if emphasis != "Original":
            self._differ("Emphasis", emphasis, "the emphasis Original is taken")
        if padded not in ("", "True"):
            self._differ("Pad conds", padded, "prompts of unlike length are padded here")
        return "a1111"

    def readable(self, request: Request) -> Request:
        """With prompts as plain text where they have what is not done here."""
        try:
            check_prompts(request)
        except ValueError as error:
            self._leave(
                "Prompt", "syntax", f"it is taken as plain text. {str(error).removesuffix('.')}"
            )
            return replace(request, prompt_syntax="plain")
        return request

    def hires(self, request: Request) -> TwoPasses:
        found = two_passes(self._pairs, request, self._ours)
        self.remarks += found.remarks
        return found

    def sampler(self) -> tuple[str, str]:
        """The names of a sampler and of its schedule."""
        name, written = self._pairs.pop("Sampler", ""), self._pairs.pop("Schedule type", None)
        for known in schedules.SCHEDULES:
            # Until 1.8 a schedule was the end of a sampler's name.
            if written is None and name.endswith(f" {known.name}"):
                name, written = name.removesuffix(f" {known.name}"), known.name
        try:
            sampler = samplers.find(name)
        except ValueError:
            sampler = samplers.SAMPLERS[0]
            self._leave(
                "Sampler", name, f"there is none of that name here: {sampler.name} is taken"
            )
        usual = _UNIFORM
        if written is None and self._ours:
            usual = AUTOMATIC
        elif written == AUTOMATIC and sampler.own_schedule == KARRAS:
            usual = KARRAS
        schedule = usual
        if written not in (None, AUTOMATIC):
            try:
                schedule = schedules.find(written).name
            except ValueError:
                self._leave(
                    "Schedule type", written, f"there is none of that name here: {usual} is taken"
                )
        if sampler.name in _OWN_TIMESTEPS and not self._ours:
            schedule = AUTOMATIC
        if sampler.name == "UniPC" and not self._ours:
            self._differ(
                "Sampler", name, "there it is bh1 of order 3 by default, here bh2 of order 2"
            )
        return sampler.name, schedule

    def size(self) -> dict[str, Any]:
        text, own = self._pairs.pop("Size", ""), native_size(self._model)
        step, found = size_step(self._model), _SIZE.fullmatch(text)
        sides = [int(side) for side in found.groups()] if found else []
        if sides and all(step <= side <= MOST_SIDE and side % step == 0 for side in sides):
            return dict(zip(("width", "height"), sides, strict=True))
        self._leave(
            "Size", text, f"sides are multiples of {step} pixels here: {own}x{own} is taken"
        )
        return {"width": own, "height": own}

    def numbers(self) -> dict[str, Any]:
        """Fields of a request by name; those that are not said are left out."""
        found = {
            name: self._number(key, kind, least, most) for key, name, kind, least, most in _NUMBERS
        }
        found["clip_skip"] = self._number("Clip skip", int, 1, text_layers(self._model))
        return {name: value for name, value in found.items() if value is not None}

    def noise_source(self) -> NoiseSource:
        """Where A1111 says nothing, its GPU drew the noise."""
        text = self._pairs.pop("RNG", "device" if self._ours else "GPU")
        for source in SOURCES:
            if text == source:
                return source
        if text != "GPU":
            self._leave("RNG", text, "there is none of that name here: NV is taken")
            return "NV"
        self._differ(
            "RNG", text, "NV is taken, an NVIDIA GPU's numbers; another maker's draws others"
        )
        return "NV"

    def acting(self, request: Request) -> Request:
        """Without what did nothing there, which would be refused here."""
        if request.variation_seed and not request.variation_strength:
            self._leave("Variation seed", str(request.variation_seed), "it has no strength")
            request = replace(request, variation_seed=0)
        delta = request.eta_noise_seed_delta
        if delta and not samplers.find(request.sampler).ancestral:
            self._leave("ENSD", str(delta), f"{request.sampler} adds no noise that it could act on")
            request = replace(request, eta_noise_seed_delta=0)
        return request

    def merging(self) -> dict[str, str]:
        ratio = self._number("Token merging ratio", float, 0, 1)
        if not ratio:
            return {}
        if ratio > RATIO.maximum:
            self._differ(
                "Token merging ratio",
                f"{ratio:g}",
                f"no more than {RATIO.maximum:g} of the tokens can be merged, there as here",
            )
        # A1111 draws nothing when it merges.
        name = "seeded" if self._ours else "fixed"
        if self._ours:
            self._differ(
                "Token merging ratio",
                f"{ratio:g}",
                f"the text does not say how tokens were chosen: {name} is taken",
            )
        return {"token-merging": f"{name}:{min(ratio, RATIO.maximum):g}"}

    def minimum_sigma(self) -> dict[str, str]:
        name = "all" if self._pairs.pop("NGMS all steps", "") == "True" else "alternate"
        sigma = self._number("NGMS", float, 0, MINIMUM_SIGMA.maximum)
        return {"min-sigma": f"{name}:{sigma:g}"} if sigma else {}

    def model(self) -> None:
        name, digest = self._pairs.pop("Model", ""), self._pairs.pop("Model hash", "")
        same = self._ours and digest == self._model.digest[:10]
        if (name or digest) and not same:
            self.remarks.append(other_model(name or digest, self._model))

    def rest(self) -> None:
        """A remark on every key that nobody has taken."""
        for key, value in self._pairs.items():
            if key not in _ABOUT_NO_PICTURE:
                known = (why for beginning, why in _WHY if key.startswith(beginning))
                self._leave(key, value, next(known, "there is nothing of that name here"))

    def _number(
        self, key: str, kind: Callable[[str], float], least: float, most: float
    ) -> float | None:
        """The value of a key; None where there is none, or none that can be had here."""
        text = self._pairs.pop(key, None)
        if text is None:
            return None
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            self._leave(key, text, f"here it is a number from {least} to {most}")
            return None
        return value

    def _leave(self, key: str, value: str, sentence: str) -> None:
        self.remarks.append(Remark(key=key, value=value, sentence=sentence))

    def _differ(self, key: str, value: str, sentence: str) -> None:
        self.remarks.append(Remark(key=key, value=value, sentence=sentence, left=False))
