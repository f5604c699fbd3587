"""The first page: a prompt, one button, a picture, and the truth about how it was made."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from audit.twin import Twin
from core.optimizations import SLOTS
from core.request import Job
from core.run import Run
from webapp import comparer, gallery, run_card, scripts, twin_card, visitors
from webapp.evidence_card import badge, mark
from webapp.export_card import elsewhere
from webapp.identity import Identity
from webapp.jobs import JobQueue, QueueFull
from webapp.picture_form import PictureForm, filled, filled_with, random_seed
from webapp.services import Services
from webapp.shell import QUIET
from webapp.taking import refused, taken, taken_card
from webapp.words import settings_of

LOOK = 0.15
"""Seconds between two looks at a job."""
RECENT = 12
"""Pictures in the strip of the latest."""


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
                self.twin = gr.HTML(
                    "", js_on_load=comparer.SCRIPT, apply_default_css=False, elem_id="beside"
                )
                self.facts = gr.HTML("", apply_default_css=False, js_on_load=None, elem_id="facts")
                self.recent = gr.HTML(
                    "", js_on_load=None, apply_default_css=False, elem_id="recent"
                )
        self.visitor = gr.Textbox(visible=False)
        self.job = gr.State("")
        self.last_seed = gr.State("")

    def connect(self, blocks: gr.Blocks) -> None:
        """Wire the events, once everything is there."""
        form = self.form
        mine: Any = {"js": visitors.SEND, **QUIET}
        shown = [
            self.stage,
            self.facts,
            self.recent,
            self.job,
            self.last_seed,
            form.go,
            form.cancel,
        ]
        for event in (form.go.click, form.prompt.submit):
            asked = [*form.batch.inputs, *form.inputs, self.visitor]
            event(lambda: "", None, self.twin, **QUIET)
            made = event(self._several, asked, shown, **mine)
            made.then(self._twin, self.job, self.twin, **QUIET)
        form.cancel.click(self._cancel, [self.job, self.visitor], form.cancel, **mine)
        form.examples.pick(_picked, None, form.prompt, **QUIET)
        written = [form.prompt, form.negative, form.syntax, form.guidance]
        for count in (form.tokens.count, form.syntax.change, form.guidance.change):
            tokens = [form.tokens, form.negative_tokens]
            count(form.counted, written, tokens, trigger_mode="always_last", **QUIET)
        form.dice.click(random_seed, None, form.seed, **QUIET)
        form.again.click(lambda seed: seed, self.last_seed, form.seed, **QUIET)
        form.clear.click(lambda: "", None, form.seed, **QUIET)
        filled_in = [*form.inputs, form.taken]
        form.picture.upload(self._take, form.picture, filled_in, **QUIET)
        form.picture.clear(lambda: "", None, form.taken, **QUIET)
        form.presets.connect(form, self.visitor, blocks)
        opened = blocks.load(self._opened, self.visitor, [*form.inputs, *shown], **mine)
        opened.then(self._twin, self.job, self.twin, **QUIET)

    async def _take(self, path: str) -> tuple[Any, ...]:
        """Fill the form with a picture's settings, and list what could not come along."""
        services = self._services
        try:
            found = await asyncio.to_thread(taken, Path(path), services.model, services.platform)
        except ValueError as error:
            return *_same(len(self.form.inputs)), refused(str(error))
        return *filled_with(found.request, found.settings), taken_card(found)

    async def _generate(self, request: gr.Request, *values: Any) -> AsyncIterator[Any]:
        *fields, secret = values
        asker = self._services.asker(request, secret)
        try:
            job = self.form.job(*fields)
            self._services.jobs.submit(job, asker.owner)
        except (ValueError, QueueFull) as error:
            yield (
                run_card.problem(str(error)),
                "",
                gr.skip(),
                "",
                gr.skip(),
                *_buttons(running=False),
            )
            return
        async for update in self._follow(job.id, asker):
            yield update

    async def _several(
        self, request: gr.Request, count: float | None, together: bool, *values: Any
    ) -> AsyncIterator[Any]:
        """One picture, or as many jobs as the batches of several; who stops one stops the rest."""
        *fields, secret = values
        asker, queue = self._services.asker(request, secret), self._services.jobs
        jobs: list[Job] = []
        if count and count > 1:
            try:
                job = self.form.job(*fields)
                split = self.form.batch.jobs
                for one in await asyncio.to_thread(split, job, int(count), together):
                    queue.submit(one, asker.owner)
                    jobs.append(one)
            except (ValueError, QueueFull) as error:
                _cancel_all(queue, jobs, asker.owner)
                sentence = run_card.problem(str(error))
                yield sentence, "", gr.skip(), "", gr.skip(), *_buttons(running=False)
                return
        else:
            async for update in self._generate(request, *values):
                yield update
        for place, job in enumerate(jobs):
            async for update in self._follow(job.id, asker):
                yield update
            ticket = queue.look(job.id)
            if ticket is None or ticket.state != "ok":
                _cancel_all(queue, jobs[place + 1 :], asker.owner)
                return

    async def _follow(self, job_id: str, asker: Identity) -> AsyncIterator[Any]:
        """Look at a job until it is closed; leaving only stops the looking."""
        shown = ""
        while (ticket := self._services.jobs.look(job_id)) is not None:
            seed = str(ticket.job.requests[0].seed)
            if ticket.run is not None:
                result = await asyncio.to_thread(self._result, ticket.run, asker.owner)
                yield (*result, job_id, seed, *_buttons(running=False))
                return
            if ticket.closed:
                sentence = run_card.problem(ticket.reason)
                yield sentence, "", gr.skip(), job_id, seed, *_buttons(running=False)
                return
            stage = run_card.working(ticket, self._device_taken_by())
            if stage != shown:
                buttons = _buttons(running=True, mine=ticket.owner == asker.owner)
                yield stage, "", gr.skip(), job_id, seed, *buttons
                shown = stage
            await asyncio.sleep(LOOK)

    def _used(self, key: str) -> tuple[Any, Any]:
        """Settings that were chosen on another page, for the form, and what to say about them."""
        try:
            configuration = self.form.configuration(settings_of(key))
        except ValueError as error:
            return gr.skip(), run_card.problem(str(error))
        return configuration.as_dict(), run_card.ready(configuration.as_dict())

    def _device_taken_by(self) -> str:
        return "an audit's run" if self._services.audits.running else ""

    def _result(self, run: Run, owner: str) -> tuple[str, str, str]:
        """The picture, what is known about it, and the owner's latest ones."""
        facts = run_card.facts(run, SLOTS)
        if not facts:
            return run_card.finished(run), "", self._recent(owner)
        finding = self._services.findings.of(run)
        job = run.job
        evidence = badge(finding, job.requests[0])
        evidence += elsewhere(job.requests, job.configuration, run.environment.device)
        known = twin_card.mark(self._services.store.twin(job.id, Twin)) or mark(finding)
        return run_card.finished(run, known), facts + evidence, self._recent(owner)

    async def _twin(self, job_id: str) -> str:
        """The picture beside the baseline's, where there is one by now. No timer looks for it: a
        tick while a picture is made leaves Gradio's Cancel disabled."""
        return await asyncio.to_thread(self._twin_card, job_id)

    def _twin_card(self, job_id: str) -> str:
        services = self._services
        run = services.store.generation(job_id)
        if run is None or run.outcome != "ok":
            return ""
        twin = services.store.twin(job_id, Twin)
        expected = twin is None and services.shadow is not None and services.shadow.expected(run)
        return twin_card.card(run, twin, expected=expected)

    def _recent(self, owner: str) -> str:
        return gallery.strip(self._services.store.history(owner, limit=RECENT))

    def _cancel(self, job_id: str, secret: str, request: gr.Request) -> Any:
        self._services.jobs.cancel(job_id, self._services.asker(request, secret).owner)
        return gr.Button(interactive=False)

    async def _opened(self, secret: str, request: gr.Request) -> AsyncIterator[Any]:
        """`?run=` shows a run again, live where it still is; `?use=` fills in settings."""
        use, job_id = request.query_params.get("use"), request.query_params.get("run", "")
        asker = self._services.asker(request, secret)
        recent = await asyncio.to_thread(self._recent, asker.owner)
        # Gradio blanks every output of a generator that never yields.
        settings, words = self._used(use) if use else _same(2)
        before = self.form.inputs.index(self.form.settings)
        after = len(self.form.inputs) - before - 1
        yield *_same(before), settings, *_same(after), words, *_same(1), recent, *_same(4)
        if not job_id:
            return
        ticket = self._services.jobs.look(job_id)
        if ticket is not None and asker.sees(ticket.owner):
            form = filled(ticket.job)
            async for update in self._follow(job_id, asker):
                yield (*form, *update)
                form = _same(len(form))
            return
        found = await asyncio.to_thread(self._services.generation, job_id, asker)
        if found is None:
            gone = run_card.problem("There is no such picture of yours, and none that is shared.")
            yield *_same(len(self.form.inputs)), gone, "", *_same(5)
            return
        run = found.run
        seed = str(run.job.requests[0].seed)
        shown = await asyncio.to_thread(self._result, run, asker.owner)
        yield *filled(run.job), *shown, job_id, seed, *_buttons(running=False)


def _cancel_all(queue: JobQueue, jobs: Sequence[Job], owner: str) -> None:
    for job in jobs:
        queue.cancel(job.id, owner)


def _same(count: int) -> tuple[Any, ...]:
    return (gr.skip(),) * count


def _buttons(*, running: bool, mine: bool = True) -> tuple[Any, Any]:
    """Generate and Cancel; who looks at another's picture can do neither to it."""
    return gr.Button(interactive=not (running and mine)), gr.Button(interactive=running and mine)


def _picked(event: gr.EventData) -> str:
    return str(event.prompt)
