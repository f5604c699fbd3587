"""The page of grids: one picture varied along up to three axes, with what each cell costs."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from audit.grid_figures import document
from core.grid import Grid
from core.history import NOBODY
from webapp import grid_card, run_card, scripts, visitors
from webapp.download import offered
from webapp.grid_form import Base, GridForm, base_words
from webapp.grid_sheet import write_sheet
from webapp.grids import GridState
from webapp.identity import Identity
from webapp.services import Services
from webapp.shell import QUIET

LOOK = 0.4
"""Seconds between two looks at a grid that is being made."""
_NAME = 80


class GridPage:
    """Components and what their events do. Made inside a page of a `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        gr.HTML(
            '<h1 class="sp-page-title">Grid</h1><p class="sp-lead">One picture, varied: choose '
            "what changes across and down, and see what each value does to the picture and to "
            "its time.</p>",
            apply_default_css=False,
            js_on_load=None,
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=300, elem_classes="sp-controls"):
                self.form = GridForm(services)
                with gr.Row():
                    self.go = gr.Button(
                        "Make the grid", variant="primary", elem_id="make-grid", min_width=130
                    )
                    self.stop = gr.Button(
                        "Stop", variant="stop", elem_id="stop-grid", interactive=False, min_width=80
                    )
                self.listing = _html("", "grids")
            with gr.Column(scale=8, min_width=300):
                self.status = gr.HTML(
                    grid_card.EMPTY,
                    js_on_load=scripts.GRID,
                    apply_default_css=False,
                    elem_id="grid-status",
                )
                with gr.Row(visible=False, elem_classes="sp-buttons") as self.doors:
                    self.resume = gr.Button("Make what is missing", elem_id="resume-grid")
                    self.picture = gr.DownloadButton("The whole grid (PNG)", elem_id="grid-png")
                    self.record = gr.DownloadButton("Figures (JSON)", elem_id="grid-json")
                self.cells = _html("", "cells")
        self.base = gr.State("")
        self.shown = gr.State("")
        self.visitor = gr.Textbox(visible=False)

    def connect(self, page: gr.Blocks) -> None:
        """Wire the events, once everything is there."""
        form = self.form
        mine: Any = {"js": visitors.SEND, **QUIET}
        view = [
            self.shown,
            self.status,
            self.cells,
            self.listing,
            self.doors,
            self.resume,
            self.picture,
            self.record,
            self.go,
            self.stop,
        ]
        filled = [form.prompt, form.seed, form.steps, form.base_words, self.base]
        page.load(self._opened, self.visitor, [*filled, *view], **mine)
        self.go.click(self._made, [self.base, *form.inputs, self.visitor], view, **mine)
        self.stop.click(self._stopped, [self.shown, self.visitor], self.stop, **mine)
        self.resume.click(self._resumed, [self.shown, self.visitor], view, **mine)
        for name, line in zip(form.kinds, form.values, strict=True):
            name.input(form.offered, name, line, **QUIET)

    async def _opened(self, secret: str, request: gr.Request) -> AsyncIterator[Any]:
        """`?grid=` shows a grid again; `?run=` starts from a picture."""
        asker = self._services.asker(request, secret)
        owner = asker.owner
        run_id = request.query_params.get("run", "")
        grid_id = request.query_params.get("grid", "")
        base = await asyncio.to_thread(self._base, run_id, asker)
        asked = base.request
        known = bool(asked.prompt)
        filled = (
            asked.prompt if known else gr.skip(),
            str(asked.seed) if known else gr.skip(),
            asked.num_inference_steps,
            base_words(base),
            run_id if known else "",
        )
        yield *filled, *self._nothing(owner)
        if grid_id:
            async for update in self._follow(grid_id, owner):
                yield (*(gr.skip(),) * len(filled), *update)

    async def _made(self, request: gr.Request, run_id: str, *values: Any) -> AsyncIterator[Any]:
        *fields, secret = values
        asker = self._services.asker(request, secret)
        owner = asker.owner
        try:
            if owner == NOBODY:
                raise ValueError("This browser keeps no secret: allow it to store data.")
            grid = await asyncio.to_thread(self._grid, run_id, asker, fields)
        except ValueError as error:
            yield self._nothing(owner, run_card.problem(str(error)))
            return
        name = str(fields[0]).strip()[:_NAME]
        grid_id = await asyncio.to_thread(self._services.grids.start, grid, name, owner)
        async for update in self._follow(grid_id, owner):
            yield update

    async def _resumed(self, grid_id: str, secret: str, request: gr.Request) -> AsyncIterator[Any]:
        owner = self._services.asker(request, secret).owner
        await asyncio.to_thread(self._services.grids.resume, grid_id, owner)
        async for update in self._follow(grid_id, owner):
            yield update

    def _stopped(self, grid_id: str, secret: str, request: gr.Request) -> Any:
        owner = self._services.asker(request, secret).owner
        self._services.grids.cancel(grid_id, owner)
        return gr.Button(interactive=False)

    async def _follow(self, grid_id: str, owner: str) -> AsyncIterator[Any]:
        """Look at a grid until nothing more comes; leaving only stops the looking."""
        entries = self._services.store.grids(owner)
        name = next((entry.name for entry in entries if entry.id == grid_id), "Grid")
        listing: Any = grid_card.listing(entries)
        before = -1
        while True:
            state = await asyncio.to_thread(self._services.grids.look, grid_id, owner)
            if state is None:
                gone = run_card.problem("There is no such grid of yours. Make a new one.")
                yield self._nothing(owner, gone)
                return
            if state.done != before or not state.working:
                files = () if state.working else await asyncio.to_thread(self._files, state)
                yield self._view(state, name, listing, files, owner)
                before, listing = state.done, gr.skip()
            if not state.working:
                return
            await asyncio.sleep(LOOK)

    def _view(
        self, state: GridState, name: str, listing: Any, files: tuple[Path, ...], owner: str
    ) -> tuple[Any, ...]:
        png, record = (
            (offered(self._services, file, owner) for file in files) if files else (None, None)
        )
        return (
            state.id,
            grid_card.status(state, name),
            grid_card.table(state),
            listing,
            gr.Row(visible=not state.working),
            gr.Button(visible=not state.working and bool(state.missing)),
            gr.DownloadButton(value=png, visible=bool(files)),
            gr.DownloadButton(value=record, visible=bool(files)),
            gr.Button(interactive=not state.working),
            gr.Button(interactive=state.working),
        )

    def _nothing(self, owner: str, words: str = grid_card.EMPTY) -> tuple[Any, ...]:
        listing = grid_card.listing(self._services.store.grids(owner))
        closed = (gr.Row(visible=False), *(gr.skip(),) * 3)
        return "", words, "", listing, *closed, gr.Button(interactive=True), gr.skip()

    def _base(self, run_id: str, asker: Identity) -> Base:
        """A picture's request and settings, or the usual ones."""
        found = self._services.generation(run_id, asker) if run_id else None
        if found is None:
            return self.form.usual()
        job = found.run.job
        return Base(request=job.requests[0], settings=job.configuration.as_dict())

    def _grid(self, run_id: str, asker: Identity, fields: list[Any]) -> Grid:
        return self.form.grid(self._base(run_id, asker), *fields)

    def _files(self, state: GridState) -> tuple[Path, ...]:
        """The whole grid as a picture, and its figures, written anew where more is there."""
        folder = self._services.reports / "grids"
        folder.mkdir(exist_ok=True)
        name = f"seedproof-grid-{state.id[:12]}-{len(state.grid.jobs) - len(state.missing)}"
        png, record = folder / f"{name}.png", folder / f"{name}.json"
        if not record.exists():
            write_sheet(state.grid, state.runs, state.figures, png)
            made = document(state.grid, state.runs, state.figures, paths=False)
            record.write_text(json.dumps(made, indent=2), encoding="utf-8")
        return png, record


def _html(value: str, name: str) -> gr.HTML:
    return gr.HTML(value, elem_id=name, apply_default_css=False, js_on_load=None)
