"""What few people change about a picture, folded away: schedule, random numbers, clip skip."""

from typing import Any

import gradio as gr

from core import noise, schedules
from core.models import text_layers
from core.request import Model, NoiseSource, Request

SEEDS = 2**32


class AdvancedForm:
    """Fields of a request that most pictures leave alone. Made inside a `gr.Blocks`."""

    def __init__(self, model: Model) -> None:
        usual = Request(prompt="", model=model)
        layers = text_layers(model)
        names = [schedule.name for schedule in schedules.SCHEDULES]
        self.schedule = gr.Dropdown(
            names,
            value=usual.schedule,
            label="Schedule",
            info="The noise levels of the steps. Automatic: the sampler's and the model's own.",
            elem_id="schedule",
        )
        self.noise_source = gr.Dropdown(
            list(noise.SOURCES),
            value=usual.noise_source,
            label="Random numbers",
            info="NV: what an NVIDIA GPU would draw, computed on the CPU.",
            elem_id="noise-source",
        )
        with gr.Row():
            self.variation_strength = gr.Slider(
                0, 1, value=0, step=0.01, label="Variation strength", min_width=140
            )
            self.variation_seed = gr.Textbox(
                label="Variation seed",
                value="",
                placeholder="a new one, where there is a strength",
                max_lines=1,
                min_width=140,
                elem_id="variation-seed",
            )
        with gr.Row():
            self.delta = gr.Textbox(
                label="Eta noise seed delta (ENSD)",
                value="",
                placeholder="0",
                max_lines=1,
                min_width=140,
                elem_id="delta",
            )
            self.clip_skip = gr.Slider(
                1, layers, value=1, step=1, label="Clip skip", min_width=140, elem_id="clip-skip"
            )

    @property
    def inputs(self) -> list[Any]:
        """In the order of `fields`' arguments and of `filled`'s values."""
        return [
            self.schedule,
            self.noise_source,
            self.variation_strength,
            self.variation_seed,
            self.delta,
            self.clip_skip,
        ]


def fields(
    schedule: str = schedules.AUTOMATIC,
    noise_source: NoiseSource = "CPU",
    variation_strength: float = 0.0,
    variation_seed: str = "",
    delta: str = "",
    clip_skip: float = 1,
    *,
    new_seed: str = "0",
) -> dict[str, Any]:
    """Fields of a request by name. Raises ValueError with a sentence for who typed them.

    `new_seed` stands in for a variation seed that is needed and left empty.
    """
    varied = variation_seed.strip() or (new_seed if variation_strength else "0")
    return {
        "schedule": schedules.find(schedule).name,
        "noise_source": noise.source(noise_source),
        "variation_strength": float(variation_strength),
        "variation_seed": whole("A variation seed", varied),
        "eta_noise_seed_delta": whole("An eta noise seed delta", delta.strip() or "0"),
        "clip_skip": int(clip_skip),
    }


def filled(request: Request) -> tuple[Any, ...]:
    """The form as it was when a picture was asked for."""
    return (
        request.schedule,
        request.noise_source,
        request.variation_strength,
        str(request.variation_seed) if request.variation_strength else "",
        str(request.eta_noise_seed_delta or ""),
        request.clip_skip,
    )


def whole(what: str, text: str) -> int:
    """A typed number. Raises ValueError with a sentence for who typed it."""
    if not text.isdecimal() or int(text) >= SEEDS:
        raise ValueError(f"{what} is a whole number from 0 to {SEEDS - 1}, not {text!r}.")
    return int(text)
