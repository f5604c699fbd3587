"""The first page: a prompt, one button, a picture, and the truth about how it was made."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from core.optimizations import SLOTS
from core.run import Run
from webapp import run_card, scripts
from webapp.evidence_card import badge
from webapp.jobs import QueueFull
from webapp.picture_form import PictureForm, filled, random_seed
from webapp.services import Services
from webapp.shell import QUIET
from webapp.words import settings_of

LOOK = 0.15
"""Seconds between two looks at a job."""
REMEMBERED = 500
"""Stored pictures among which an address is looked up."""


class GeneratePage:
    """Components and what their events do. Made inside a `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        gr.HTML(
            '<h1 class="sp-unseen">Generate a picture</h1>',
            apply_default_css=False,
            js_on_load=None,
            elem_classes="sp-shell",
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300, elem_classes="sp-controls"):
                self.form = PictureForm(services)
            with gr.Column(scale=7, min_width=300):
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
        form = self.form
        shown = [self.stage, self.facts, self.job, self.last_seed, form.go, form.cancel]
        for event in (form.go.click, form.prompt.submit):
            event(self._generate, form.inputs, shown, **QUIET)
        form.cancel.click(self._cancel, self.job, form.cancel, **QUIET)
        form.examples.pick(_picked, None, form.prompt, **QUIET)
        form.dice.click(random_seed, None, form.seed, **QUIET)
        form.again.click(lambda seed: seed, self.last_seed, form.seed, **QUIET)
        form.clear.click(lambda: "", None, form.seed, **QUIET)
        blocks.load(self._opened, None, [*form.inputs, *shown], **QUIET)

    async def _generate(self, request: gr.Request, *values: Any) -> AsyncIterator[Any]:
        try:
            job = self.form.job(*values)
            self._services.jobs.submit(job, request.session_hash or "somebody")
        except (ValueError, QueueFull) as error:
            yield run_card.problem(str(error)), "", "", gr.skip(), *_buttons(running=False)
            return
        async for update in self._follow(job.id):
            yield update

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
        use, job_id = request.query_params.get("use"), request.query_params.get("run", "")
        # Gradio blanks every output of a generator that never yields.
        yield (*_same(8), settings_of(use) if use else gr.skip(), *_same(6))
        if not job_id:
            return
        ticket = self._services.jobs.look(job_id)
        if ticket is not None:
            form = filled(ticket.job)
            async for update in self._follow(job_id):
                yield (*form, *update)
                form = _same(9)
            return
        run = await asyncio.to_thread(self._stored, job_id)
        if run is None:
            gone = run_card.problem("There is no such picture in this database. Make a new one.")
            yield (*_same(9), gone, "", "", *_same(3))
            return
        seed = str(run.job.requests[0].seed)
        shown = await self._result(run)
        yield (*filled(run.job), *shown, job_id, seed, *_buttons(running=False))

    def _stored(self, job_id: str) -> Run | None:
        runs = self._services.store.generations(REMEMBERED)
        return next((run for run in runs if run.job.id == job_id), None)


def _same(count: int) -> tuple[Any, ...]:
    return (gr.skip(),) * count


def _buttons(*, running: bool) -> tuple[Any, Any]:
    return gr.Button(interactive=not running), gr.Button(interactive=running)


def _picked(event: gr.EventData) -> str:
    return str(event.prompt)
