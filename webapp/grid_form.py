"""What a grid starts from and what it varies, as somebody fills it in."""

from dataclasses import dataclass, replace
from html import escape
from typing import Any

import gradio as gr

from core.grid import Against, Grid, grid
from core.grid_axis import KINDS, PROMPT, axis, kind
from core.models import native_size
from core.optimizations import SLOTS, availability
from core.request import Request
from webapp.advanced_form import whole
from webapp.picture_form import GUIDANCE, MOST_STEPS, STEPS, random_seed, sizes
from webapp.services import Services
from webapp.words import beside, chip

NOTHING = ""
LETTERS = ("X", "Y", "Z")
_KINDS = [("nothing", NOTHING), *((known.label, known.name) for known in KINDS)]
_AGAINST = (("the first cell", "first"), ("the same picture without optimizations", "baseline"))


@dataclass(frozen=True, kw_only=True)
class Base:
    """What every cell has, but for what the axes vary."""

    request: Request
    settings: dict[str, str]


class GridForm:
    """A prompt and three axes; all else comes from a picture, or is as usual. Made inside a
    `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        examples = services.examples
        self.prompt = gr.Textbox(
            label="Prompt",
            value=examples[0] if examples else "",
            lines=2,
            max_lines=6,
            elem_id="grid-prompt",
        )
        with gr.Row():
            self.seed = gr.Textbox(
                label="Seed",
                value="",
                placeholder="a new one",
                max_lines=1,
                min_width=100,
                elem_id="grid-seed",
            )
            self.steps = gr.Slider(1, MOST_STEPS, value=STEPS, step=1, label="Steps", min_width=160)
        self.base_words = gr.HTML("", js_on_load=None, apply_default_css=False, elem_id="base")
        self.kinds: list[Any] = []
        self.values: list[Any] = []
        first = ("attention", self.offered("attention")), (NOTHING, ""), (NOTHING, "")
        for letter, (name, line) in zip(LETTERS, first, strict=True):
            with gr.Row():
                self.kinds.append(
                    gr.Dropdown(
                        _KINDS,
                        value=name,
                        label=f"{letter} varies",
                        min_width=130,
                        elem_id=f"{letter.lower()}-kind",
                    )
                )
                self.values.append(
                    gr.Textbox(
                        label=f"Values of {letter}",
                        value=line,
                        placeholder="8, 20 or 1-5 or 1-9(+2)",
                        max_lines=1,
                        min_width=170,
                        elem_id=f"{letter.lower()}-values",
                    )
                )
        self.against = gr.Radio(
            list(_AGAINST), value="first", label="Drift is measured against", elem_id="against"
        )

    @property
    def inputs(self) -> list[Any]:
        """In the order of `grid`'s arguments."""
        return [self.prompt, self.seed, self.steps, *self.kinds, *self.values, self.against]

    def usual(self) -> Base:
        """Where no picture says otherwise."""
        model = self._services.model
        side = native_size(model)
        request = Request(
            prompt="",
            model=model,
            prompt_syntax="a1111",
            width=side,
            height=side,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
        )
        return Base(request=request, settings={})

    def grid(
        self,
        base: Base,
        prompt: str,
        seed: str,
        steps: float,
        *rest: Any,
    ) -> Grid:
        """A checked grid. Raises ValueError with a sentence for people."""
        if not prompt.strip():
            raise ValueError("Write what the pictures should show.")
        kinds, lines, against = rest[:3], rest[3:6], rest[6]
        axes = tuple(
            axis(name, line) for name, line in zip(kinds, lines, strict=True) if name != NOTHING
        )
        request = replace(
            base.request,
            prompt=prompt.strip(),
            seed=whole("A seed", seed.strip() or random_seed()),
            num_inference_steps=int(steps),
        )
        chosen: Against = "baseline" if against == "baseline" else "first"
        made = grid(request, base.settings, axes, self._services.platform, against=chosen)
        self._refuse_too_much(made)
        return made

    def _refuse_too_much(self, made: Grid) -> None:
        """An axis goes no further than the first page's form does, and than the server allows.
        How much its owner keeps already is asked when a cell goes into the queue."""
        largest = max(sizes(self._services.model))
        for job in made.jobs:
            asked = job.requests[0]
            if max(asked.width, asked.height) > largest:
                raise ValueError(f"A side has at most {largest} pixels here: choose a smaller one.")
            if asked.num_inference_steps > MOST_STEPS:
                raise ValueError(f"A picture has at most {MOST_STEPS} steps here: choose fewer.")
            self._services.policy.limits.refuse(job, lambda: 0)

    def offered(self, name: str) -> str:
        """A line with every value that can run here, where they can be counted, else an example;
        nothing for a prompt, where only its writer knows what to search for."""
        if name in (NOTHING, PROMPT):
            return ""
        found = kind(name)
        options = next((slot.options for slot in SLOTS if slot.name == found.name), ())
        platform, model = self._services.platform, self._services.model
        away = {o.name for o in options if availability(o, platform, model.path) is not None}
        values = [value for value in found.choices if value not in away]
        slot = next((slot for slot in SLOTS if slot.name == found.name), None)
        if slot is not None and slot.default(platform) == "off":
            values.insert(0, "off")
        return ", ".join(values) if values else found.example.split(" or ")[0]


def base_words(base: Base) -> str:
    """What every cell shares, beside what stands in the form."""
    request = base.request
    facts = (
        f"{request.width} × {request.height} px",
        request.sampler,
        f"guidance {request.guidance_scale:g}",
        *beside(request),
        *(f"{slot} {value}" for slot, value in base.settings.items()),
    )
    negative = request.negative_prompt
    told = f'<p class="sp-hint">Not: {escape(negative)}</p>' if negative else ""
    return (
        f'<p class="sp-hint">In every cell, where no axis varies it:</p><p>'
        f"{' '.join(chip(fact) for fact in facts)}</p>{told}"
    )
