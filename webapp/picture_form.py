"""What a visitor fills in for a picture, and the job it becomes."""

import random
import uuid
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from core.models import check, native_size, size_step
from core.optimization import Configuration
from core.optimizations import SLOTS, availability, chosen, configure
from core.picture_file import FORMATS
from core.presets import Preset, preset_of, with_preset
from core.prompt_syntax import find_syntax
from core.request import Job, Model, Request
from core.samplers import SAMPLERS, find
from webapp import advanced_form, scripts
from webapp.advanced_form import SEEDS, AdvancedForm, whole
from webapp.batch_form import BatchForm
from webapp.presets_form import PresetsForm
from webapp.services import Services
from webapp.settings_form import SettingsForm, accepted
from webapp.token_counter import TokenCounter

STEPS = 20
MOST_STEPS = 100
GUIDANCE = 5.0
MOST_GUIDANCE = 15
SYNTAXES = (
    ("as AUTOMATIC1111: weights, BREAK, any length", "a1111"),
    ("plain: every character as it stands", "plain"),
)


class PictureForm:
    """The prompt and everything folded away below it. Made inside a `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._counter = TokenCounter(services.model)
        self._prompt()
        with gr.Row():
            self.go = gr.Button(
                "Generate", variant="primary", size="lg", elem_id="generate", scale=3, min_width=150
            )
            self.cancel = gr.Button(
                "Cancel",
                variant="stop",
                size="lg",
                elem_id="cancel",
                scale=1,
                min_width=90,
                interactive=False,
            )
        with gr.Accordion("Seed, size and steps", open=False, elem_classes="sp-accordion"):
            self._details()
        with gr.Accordion("Several pictures", open=False, elem_classes="sp-accordion"):
            self.batch = BatchForm(services)
        with gr.Accordion("Presets and styles", open=False, elem_classes="sp-accordion"):
            self.presets = PresetsForm(services)
        with gr.Accordion("Advanced", open=False, elem_classes="sp-accordion"):
            self.advanced = AdvancedForm(services.model)
        with gr.Accordion("Settings from a picture", open=False, elem_classes="sp-accordion"):
            self.picture = gr.File(
                label="Drop a picture in: ours, or another program's",
                file_types=list(FORMATS),
                type="filepath",
                height=120,
                elem_id="take",
            )
            self.taken = gr.HTML("", js_on_load=None, apply_default_css=False, elem_id="taken")
        self.settings = SettingsForm(
            SLOTS,
            services.platform,
            lambda option, platform: availability(option, platform, services.model.path),
        )

    def _prompt(self) -> None:
        examples = self._services.examples
        self.prompt = gr.Textbox(
            label="Prompt",
            value=examples[0] if examples else "",
            placeholder="What the picture shows. Ctrl+Enter makes it.",
            lines=3,
            max_lines=8,
            elem_id="prompt",
        )
        self.tokens = gr.HTML(
            "", js_on_load=scripts.TOKENS, apply_default_css=False, elem_id="prompt-tokens"
        )
        buttons = "".join(
            f'<button type="button" data-prompt="{escape(example)}" title="{escape(example)}">'
            f"{escape(example.split(',')[0])}</button>"
            for example in examples
        )
        self.examples = gr.HTML(
            f'<div class="sp-examples" role="group" aria-label="Examples">{buttons}</div>',
            js_on_load=scripts.EXAMPLES,
            apply_default_css=False,
            visible=bool(examples),
        )

    def _details(self) -> None:
        model = self._services.model
        self.negative = gr.Textbox(
            label="Negative prompt",
            value="",
            placeholder="What it should not show",
            elem_id="negative",
        )
        self.negative_tokens = gr.HTML(
            "", js_on_load=None, apply_default_css=False, elem_id="negative-tokens"
        )
        self.syntax = gr.Dropdown(
            list(SYNTAXES), value="a1111", label="Prompts are read", elem_id="prompt-syntax"
        )
        # Not a gr.Number: that one shows 0 where nothing is chosen.
        self.seed = gr.Textbox(
            label="Seed",
            value="",
            placeholder="a new one every time",
            max_lines=1,
            elem_id="seed",
        )
        with gr.Row():
            self.dice = gr.Button("Random seed", size="sm", min_width=110, elem_id="random")
            self.again = gr.Button("Reuse last", size="sm", min_width=110, elem_id="reuse")
            self.clear = gr.Button("Empty", size="sm", min_width=70)
        self.steps = gr.Slider(1, MOST_STEPS, value=STEPS, step=1, label="Steps", elem_id="steps")
        self.guidance = gr.Slider(
            1, MOST_GUIDANCE, value=GUIDANCE, step=0.5, label="Guidance scale"
        )
        native, offered = native_size(model), sizes(model)
        with gr.Row():
            self.width = gr.Dropdown(offered, value=native, label="Width", min_width=100)
            self.height = gr.Dropdown(offered, value=native, label="Height", min_width=100)
        if said := self._services.policy.limits.sentence:
            gr.HTML(
                f'<p class="sp-hint" id="limits">{said}</p>',
                js_on_load=None,
                apply_default_css=False,
            )
        names = [sampler.name for sampler in SAMPLERS]
        self.sampler = gr.Dropdown(names, value=names[0], label="Sampler", elem_id="sampler")

    @property
    def inputs(self) -> list[Any]:
        """In the order of `job`'s arguments and of `filled`'s values."""
        return [
            self.prompt,
            self.negative,
            self.syntax,
            self.seed,
            self.steps,
            self.guidance,
            self.width,
            self.height,
            self.sampler,
            self.settings,
            *self.advanced.inputs,
        ]

    def job(self, prompt: str, *fields: Any) -> Job:
        """A checked job. Raises ValueError with a sentence for people."""
        if not prompt.strip():
            raise ValueError("Write what the picture should show, or pick an example.")
        asked, configuration = self.asked(prompt, *fields)
        check(asked)
        return Job(
            id=uuid.uuid4().hex, requests=(asked,), configuration=configuration, preview=True
        )

    def asked(
        self,
        prompt: str,
        negative: str,
        syntax: str,
        seed: str,
        steps: float,
        guidance: float,
        width: int,
        height: int,
        sampler: str,
        settings: object,
        *advanced: Any,
    ) -> tuple[Request, Configuration]:
        """What stands in the form. Raises ValueError with a sentence for people."""
        configuration = self.configuration(accepted(settings, SLOTS))
        offered = sizes(self._services.model)
        if not {width, height} <= set(offered):
            raise ValueError(f"Choose a width and a height from {offered[0]} to {offered[-1]}.")
        asked = Request(
            prompt=prompt.strip(),
            negative_prompt=negative.strip(),
            prompt_syntax=find_syntax(syntax),
            model=self._services.model,
            seed=_seed(seed),
            width=int(width),
            height=int(height),
            num_inference_steps=int(steps),
            guidance_scale=float(guidance),
            sampler=find(sampler).name,
            **advanced_form.fields(*advanced, new_seed=random_seed()),
        )
        return asked, configuration

    def preset(self, name: str, *fields: Any) -> Preset:
        """The form's settings under a name. Raises ValueError with a sentence for people."""
        asked, configuration = self.asked(*fields)
        return preset_of(name, asked, configuration.as_dict())

    def with_preset(self, preset: Preset, *fields: Any) -> tuple[Any, ...]:
        """The form's values with a preset in them; prompts and seeds stay as they were typed.
        Raises ValueError with a sentence for people."""
        asked, _ = self.asked(*fields)
        filled = with_preset(asked, preset)
        # What stays as it was typed is judged when a picture is asked for.
        check(
            replace(filled, prompt="", negative_prompt="", variation_seed=0, variation_strength=0.0)
        )
        values = filled_with(filled, self.configuration(preset.settings).as_dict())
        typed = (self.prompt, self.negative, self.seed, *self.advanced.inputs[2:4])
        kept = {self.inputs.index(component) for component in typed}
        return tuple(fields[at] if at in kept else value for at, value in enumerate(values))

    def counted(self, prompt: str, negative: str, syntax: str, guidance: float) -> tuple[str, str]:
        """What stands below the two prompts. Asks a tokenizer, never the engine."""
        unread = '<p class="sp-tokens">Not read: a guidance scale of 1 has no negative prompt.</p>'
        return (
            self._counter.markup(prompt, syntax, "prompt"),
            self._counter.markup(negative, syntax, "negative prompt") if guidance > 1 else unread,
        )

    def configuration(self, settings: Mapping[str, str]) -> Configuration:
        """What can run here. Raises ValueError with a sentence for people."""
        platform = self._services.platform
        configuration = configure(settings, platform)
        for option, _ in chosen(configuration):
            if why_not := availability(option, platform, self._services.model.path):
                raise ValueError(f"{option.name} cannot run here: {why_not}. Choose another.")
        return configuration


def sizes(model: Model) -> list[int]:
    """Sides in pixels that are offered: from half the model's own to twice."""
    native, step = native_size(model), size_step(model)
    return list(range(max(step, native // 2 // step * step), 2 * native + 1, step))


def filled(job: Job) -> tuple[Any, ...]:
    """The form as it was when a job was asked for."""
    return filled_with(job.requests[0], job.configuration.as_dict())


def filled_with(asked: Request, settings: Mapping[str, str]) -> tuple[Any, ...]:
    """The form with a request and settings in it."""
    return (
        asked.prompt,
        asked.negative_prompt,
        asked.prompt_syntax,
        str(asked.seed),
        asked.num_inference_steps,
        asked.guidance_scale,
        asked.width,
        asked.height,
        asked.sampler,
        dict(settings),
        *advanced_form.filled(asked),
    )


def random_seed() -> str:
    return str(random.randrange(SEEDS))


def _seed(text: str) -> int:
    """A typed seed, or a new one. Raises ValueError with a sentence for who typed it."""
    return whole("A seed", text.strip() or random_seed())
