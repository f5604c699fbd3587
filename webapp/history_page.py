"""The page of every picture that was made in this browser: search, open, download, delete."""

import asyncio
from typing import Any

import gradio as gr

from core.run import Run
from webapp import gallery, scripts, visitors
from webapp.evidence_card import mark
from webapp.findings import Finding
from webapp.services import Services
from webapp.shell import QUIET

PER_PAGE = 24


class HistoryPage:
    """Components and what their events do. Made inside a page of a `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        gr.HTML(
            '<h1 class="sp-page-title">History</h1><p class="sp-lead">Your pictures, the latest '
            "first. There are no accounts: they are yours by a secret that this browser keeps, "
            "and nobody else has them listed. Whoever you give a picture’s address to can open "
            "it.</p>",
            apply_default_css=False,
            js_on_load=None,
        )
        self.search = gr.Textbox(
            label="Search prompts and settings",
            placeholder="apple token-merging",
            max_lines=1,
            elem_id="search",
        )
        self.wall = gr.HTML("", js_on_load=scripts.HISTORY, apply_default_css=False, elem_id="wall")
        self.visitor = gr.Textbox(visible=False)
        self.page = gr.State(1)

    def connect(self, page: gr.Blocks) -> None:
        """Wire the events, once everything is there."""
        mine: Any = {"js": visitors.SEND, **QUIET}
        shown = [self.wall, self.page]
        page.load(self._opened, self.visitor, [self.search, *shown], **mine)
        self.search.input(
            self._searched, [self.search, self.visitor], shown, trigger_mode="always_last", **mine
        )
        self.wall.turn(self._turned, [self.search, self.visitor], shown, **mine)
        self.wall.remove(self._removed, [self.search, self.page, self.visitor], shown, **mine)

    async def _opened(self, secret: str, request: gr.Request) -> tuple[Any, ...]:
        """`?q=` and `?page=` are where one was before."""
        search = request.query_params.get("q", "")
        number = request.query_params.get("page", "1")
        page = int(number) if number.isdecimal() else 1
        return search, *await asyncio.to_thread(self._wall, search, page, secret)

    async def _searched(self, search: str, secret: str) -> tuple[str, int]:
        return await asyncio.to_thread(self._wall, search, 1, secret)

    async def _turned(self, event: gr.EventData, search: str, secret: str) -> tuple[str, int]:
        return await asyncio.to_thread(self._wall, search, int(str(event.page)), secret)

    async def _removed(
        self, event: gr.EventData, search: str, page: int, secret: str
    ) -> tuple[str, int]:
        store, owner = self._services.store, visitors.owner(secret)
        await asyncio.to_thread(store.delete_generation, str(event.run), owner)
        return await asyncio.to_thread(self._wall, search, page, secret)

    def _wall(self, search: str, page: int, secret: str) -> tuple[str, int]:
        """The wanted page, or the last one where there are fewer by now."""
        store, owner = self._services.store, visitors.owner(secret)
        found = store.history(owner, search, limit=PER_PAGE, skip=(max(page, 1) - 1) * PER_PAGE)
        page = min(max(page, 1), max(1, -(-found.total // PER_PAGE)))
        if found.total and not found.generations:
            found = store.history(owner, search, limit=PER_PAGE, skip=(page - 1) * PER_PAGE)
        known: dict[tuple[str, ...], Finding | None] = {}

        def marked(run: Run) -> str:
            model = run.job.requests[0].model.digest
            which = (run.job.configuration.key, run.environment.fingerprint, model)
            if which not in known:
                known[which] = self._services.findings.of(run)
            return mark(known[which])

        return gallery.wall(found, search, page, PER_PAGE, marked), page
