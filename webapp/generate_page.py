"""The first page: a prompt, one button, a picture, and the truth about how it was made."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from html import escape
from typing import Any

import gradio as gr

from core.models import check, native_size, size_step
from core.optimizations import SLOTS, availability, chosen, configure
from core.request import Job, Request
from core.run import Run
from core.samplers import SAMPLERS
from webapp import run_card, scripts
from webapp.evidence_card import badge
from webapp.jobs import QueueFull
from webapp.services import Services
from webapp.settings_form import SettingsForm, accepted
from webapp.shell import QUIET
from webapp.words import settings_of

LOOK = 0.15
"""Seconds between two looks at a job."""
SEEDS = 2**32
STEPS = 20
GUIDANCE = 5.0


class GeneratePage:
    """Components and what their events do. Made inside a `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300, elem_classes="sp-controls"):
                self._write()
            with gr.Column(scale=7, min_width=300):
                self._show()
        self._form = [
            self.prompt,
            self.negative,
            self.seed,
            self.steps,
            self.guidance,
            self.width,
            self.height,
            self.sampler,
            self.settings,
        ]

    def _write(self) -> None:
        model = self._services.model
        examples = self._services.examples
        self.prompt = gr.Textbox(
            label="Prompt",
            value=examples[0] if examples else "",
            placeholder="What the picture shows",
            lines=3,
            max_lines=8,
            elem_id="prompt",
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
            self.negative = gr.Textbox(
                label="Negative prompt",
                value="",
                placeholder="What it should not show",
                elem_id="negative",
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
            self.steps = gr.Slider(1, 100, value=STEPS, step=1, label="Steps", elem_id="steps")
            self.guidance = gr.Slider(1, 15, value=GUIDANCE, step=0.5, label="Guidance scale")
            native, step = native_size(model), size_step(model)
            sizes = list(range(max(step, native // 2 // step * step), 2 * native + 1, step))
            with gr.Row():
                self.width = gr.Dropdown(sizes, value=native, label="Width", min_width=100)
                self.height = gr.Dropdown(sizes, value=native, label="Height", min_width=100)
            names = [sampler.name for sampler in SAMPLERS]
            self.sampler = gr.Dropdown(
                names, value=names[0], label="Sampler", visible=len(names) > 1
            )
        self.settings = SettingsForm(SLOTS, self._services.platform, availability)

    def _show(self) -> None:
        self.stage = gr.HTML(
            run_card.EMPTY,
            js_on_load=scripts.STAGE,
            apply_default_css=False,
            elem_id="stage",
        )
        self.facts = gr.HTML("", apply_default_css=False, js_on_load=None, elem_id="facts")
        gr.HTML(
            '<section class="sp-card"><h2 class="sp-title">Recent in this browser</h2>'
            '<div class="sp-recent"></div></section>',
            js_on_load=scripts.RECENT,
            apply_default_css=False,
        )
        self.job = gr.State("")
        self.last_seed = gr.State("")

    def connect(self, blocks: gr.Blocks) -> None:
        """Wire the events, once everything is there."""
        shown = [self.stage, self.facts, self.job, self.last_seed, self.go, self.cancel]
        inputs: Any = self._form
        for event in (self.go.click, self.prompt.submit):
            event(self._generate, inputs, shown, **QUIET)
        self.cancel.click(self._cancel, self.job, self.cancel, **QUIET)
        self.examples.pick(_picked, None, self.prompt, **QUIET)
        self.dice.click(_random_seed, None, self.seed, **QUIET)
        self.again.click(lambda seed: seed, self.last_seed, self.seed, **QUIET)
        self.clear.click(lambda: "", None, self.seed, **QUIET)
        blocks.load(self._opened, None, [*self._form, *shown], **QUIET)

    async def _generate(self, request: gr.Request, *form: Any) -> AsyncIterator[Any]:
        try:
            job = self._job(*form)
            self._services.jobs.submit(job, request.session_hash or "somebody")
        except (ValueError, QueueFull) as error:
            yield run_card.problem(str(error)), "", "", gr.skip(), *_buttons(running=False)
            return
        async for update in self._follow(job.id):
            yield update

    def _job(
        self,
        prompt: str,
        negative: str,
        seed: str,
        steps: float,
        guidance: float,
        width: int,
        height: int,
        sampler: str,
        settings: object,
    ) -> Job:
        """A checked job. Raises ValueError with a sentence for people."""
        platform = self._services.platform
        if not prompt.strip():
            raise ValueError("Write what the picture should show, or pick an example.")
        configuration = configure(accepted(settings, SLOTS), platform)
        for option, _ in chosen(configuration):
            if why_not := availability(option, platform):
                raise ValueError(f"{option.name} cannot run here: {why_not}. Choose another.")
        asked = Request(
            prompt=prompt.strip(),
            negative_prompt=negative.strip(),
            model=self._services.model,
            seed=_seed(seed),
            width=int(width),
            height=int(height),
            num_inference_steps=int(steps),
            guidance_scale=float(guidance),
            sampler=sampler,
        )
        check(asked)
        return Job(
            id=uuid.uuid4().hex, requests=(asked,), configuration=configuration, preview=True
        )

    async def _follow(self, job_id: str) -> AsyncIterator[Any]:
        """Look at a job until it is closed; leaving only stops the looking."""
        shown = ""
        while (ticket := self._services.jobs.look(job_id)) is not None:
            seed = str(ticket.job.requests[0].seed)
            if ticket.run is not None:
                yield (*await self._result(ticket.run), job_id, seed, *_buttons(running=False))
                return
            if ticket.closed:
                sentence = run_card.problem(ticket.reason)
                yield sentence, "", job_id, seed, *_buttons(running=False)
                return
            stage = run_card.working(ticket, self._device_taken_by())
            if stage != shown:
                yield stage, "", job_id, seed, *_buttons(running=True)
                shown = stage
            await asyncio.sleep(LOOK)

    def _device_taken_by(self) -> str:
        return "an audit's run" if self._services.audits.running else ""

    async def _result(self, run: Run) -> tuple[str, str]:
        finding = await asyncio.to_thread(
            self._services.findings.of,
            run.job.configuration,
            self._services.platform,
            self._services.model,
        )
        facts = run_card.facts(run, SLOTS)
        return run_card.finished(run), facts + (badge(finding) if facts else "")

    def _cancel(self, job_id: str) -> Any:
        self._services.jobs.cancel(job_id)
        return gr.Button(interactive=False)

    async def _opened(self, request: gr.Request) -> AsyncIterator[Any]:
        """`?run=` shows a run again, live where it still is; `?use=` fills in settings."""
        query = request.query_params
        nothing = (gr.skip(),) * 6
        use, job_id = query.get("use"), query.get("run", "")
        # Gradio blanks every output of a generator that never yields.
        yield (*(gr.skip(),) * 8, settings_of(use) if use else gr.skip(), *nothing)
        if not job_id:
            return
        ticket = self._services.jobs.look(job_id)
        if ticket is not None:
            first = True
            async for update in self._follow(job_id):
                form = self._filled(ticket.job) if first else (gr.skip(),) * 9
                yield (*form, *update)
                first = False
            return
        run = await asyncio.to_thread(self._stored, job_id)
        if run is None:
            gone = "There is no such picture in this database. Generate a new one."
            yield (*(gr.skip(),) * 9, run_card.problem(gone), "", "", *(gr.skip(),) * 3)
            return
        seed = str(run.job.requests[0].seed)
        yield (
            *self._filled(run.job),
            *await self._result(run),
            job_id,
            seed,
            *_buttons(running=False),
        )

    def _stored(self, job_id: str) -> Run | None:
        runs = self._services.store.generations(500)
        return next((run for run in runs if run.job.id == job_id), None)

    def _filled(self, job: Job) -> tuple[Any, ...]:
        """The form as it was when a job was asked for."""
        asked = job.requests[0]
        return (
            asked.prompt,
            asked.negative_prompt,
            str(asked.seed),
            asked.num_inference_steps,
            asked.guidance_scale,
            asked.width,
            asked.height,
            asked.sampler,
            job.configuration.as_dict(),
        )


def _buttons(*, running: bool) -> tuple[Any, Any]:
    return gr.Button(interactive=not running), gr.Button(interactive=running)


def _picked(event: gr.EventData) -> str:
    return str(event.prompt)


def _random_seed() -> str:
    return str(random.randrange(SEEDS))


def _seed(text: str) -> int:
    """A typed seed, or a new one. Raises ValueError with a sentence for who typed it."""
    plain = text.strip() or _random_seed()
    if not plain.isdecimal() or int(plain) >= SEEDS:
        raise ValueError(f"A seed is a whole number from 0 to {SEEDS - 1}, not {plain!r}.")
    return int(plain)
