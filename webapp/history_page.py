"""The page of every picture that one made: search, open, download, delete."""

import asyncio
from typing import Any

import gradio as gr

from audit.changes import changes
from audit.twin import Twin
from core.optimizations import configure
from core.run import Run
from webapp import gallery, scripts, twin_card, visitors
from webapp.evidence_card import mark
from webapp.findings import Finding
from webapp.services import Services
from webapp.shell import QUIET
from webapp.words import setting

PER_PAGE = 24
BY_SECRET = (
    "There are no accounts: they are yours by a secret that this browser keeps, and nobody else "
    "has them listed. Whoever you give a picture’s address to can open it."
)
BY_ACCOUNT = (
    "They belong to your account: no other user can open them, even with their address. Whoever "
    "runs this server can."
)
_DIGITS = 7
"""Of a page's number."""


class HistoryPage:
    """Components and what their events do. Made inside a page of a `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        whose = BY_SECRET if services.rules is None else BY_ACCOUNT
        gr.HTML(
            '<h1 class="sp-page-title">History</h1><p class="sp-lead">Your pictures, the latest '
            f"first. {whose}</p>",
            apply_default_css=False,
            js_on_load=None,
        )
        self.search = gr.HTML(
            '<label class="sp-search"><span>Search prompts and settings</span>'
            '<input type="search" placeholder="apple token-merging" autocomplete="off"></label>',
            js_on_load=scripts.SEARCH,
            apply_default_css=False,
        )
        self.wall = gr.HTML("", js_on_load=scripts.HISTORY, apply_default_css=False, elem_id="wall")
        self.visitor = gr.Textbox(visible=False)
        self.words = gr.State("")
        self.page = gr.State(1)

    def connect(self, page: gr.Blocks) -> None:
        """Wire the events, once everything is there."""
        mine: Any = {"js": visitors.SEND, **QUIET}
        shown = [self.wall, self.page, self.words]
        page.load(self._opened, self.visitor, shown, **mine)
        self.search.search(self._searched, self.visitor, shown, trigger_mode="always_last", **mine)
        self.wall.turn(self._turned, [self.words, self.visitor], shown, **mine)
        self.wall.remove(self._removed, [self.words, self.page, self.visitor], shown, **mine)

    async def _opened(self, secret: str, request: gr.Request) -> tuple[str, int, str]:
        """`?q=` and `?page=` are where one was before."""
        words = request.query_params.get("q", "")
        number = request.query_params.get("page", "1")
        owner = self._services.asker(request, secret).owner
        return await asyncio.to_thread(self._wall, words, _page(number), owner)

    async def _searched(
        self, event: gr.EventData, secret: str, request: gr.Request
    ) -> tuple[str, int, str]:
        owner = self._services.asker(request, secret).owner
        return await asyncio.to_thread(self._wall, str(event.words), 1, owner)

    async def _turned(
        self, event: gr.EventData, words: str, secret: str, request: gr.Request
    ) -> tuple[str, int, str]:
        owner = self._services.asker(request, secret).owner
        return await asyncio.to_thread(self._wall, words, _page(str(event.page)), owner)

    async def _removed(
        self, event: gr.EventData, words: str, page: int, secret: str, request: gr.Request
    ) -> tuple[str, int, str]:
        store, owner = self._services.store, self._services.asker(request, secret).owner
        await asyncio.to_thread(store.delete_generation, str(event.run), owner)
        return await asyncio.to_thread(self._wall, words, page, owner)

    def _wall(self, words: str, page: int, owner: str) -> tuple[str, int, str]:
        """The wanted page, or the last one where there are fewer by now; its number, its search."""
        store = self._services.store
        found = store.history(owner, words, limit=PER_PAGE, skip=(max(page, 1) - 1) * PER_PAGE)
        page = min(max(page, 1), max(1, -(-found.total // PER_PAGE)))
        if found.total and not found.generations:
            found = store.history(owner, words, limit=PER_PAGE, skip=(page - 1) * PER_PAGE)
        known: dict[tuple[str, ...], Finding | None] = {}

        def marked(run: Run) -> str:
            model = run.job.requests[0].model.digest
            which = (run.job.configuration.key, run.environment.fingerprint, model)
            if which not in known:
                known[which] = self._services.findings.of(run)
            here = self._services.platform
            changed = changes(run.job.configuration, configure({}, here))
            told = "".join(
                f'<span class="sp-note">{setting(f"{slot}={value}")}</span><br>'
                for slot, value in changed
            )
            return told + (twin_card.mark(store.twin(run.job.id, Twin)) or mark(known[which]))

        return gallery.wall(found, words, page, PER_PAGE, marked), page, words


def _page(text: str) -> int:
    """The first one where a browser sent something else."""
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else 1
