"""The page of every picture of one's own: search, narrow, tag, compare, download, delete."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from html import escape
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from audit.changes import changes
from audit.twin import Twin
from core.history import NOBODY
from core.narrowing import Narrowing
from core.optimizations import configure
from core.run import Run
from core.store import Store
from webapp import (
    gallery,
    history_filter,
    picture_card,
    scripts,
    selection,
    twin_card,
    visitors,
)
from webapp.evidence_card import mark
from webapp.findings import Finding
from webapp.history_filter import Chosen, chosen_of, narrowing
from webapp.identity import Identity
from webapp.services import Services
from webapp.shell import QUIET
from webapp.words import setting

PER_PAGE = 24
MOST_AT_ONCE = 100_000
"""Pictures that one press of a button may act on."""
BY_SECRET = (
    "There are no accounts: they are yours by a secret that this browser keeps, and nobody else "
    "has them listed. A picture’s address opens for you alone, until you share it."
)
BY_ACCOUNT = (
    "They belong to your account: no other user can open them, even with their address, until you "
    "share one. Whoever runs this server can."
)
MOST_SEARCH = 500
"""Letters of a search; what comes after them is left out."""
_DIGITS = 7
"""Of a page's number."""

Change = Callable[[Store, str, str, gr.EventData], object]
"""What an event does to one run of an owner's; raises ValueError with a sentence."""


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
        self.picture = gr.HTML(
            "", js_on_load=picture_card.SCRIPT, apply_default_css=False, elem_id="picture"
        )
        self.search = gr.HTML(
            '<label class="sp-search"><span>Search prompts and settings</span>'
            '<input type="search" placeholder="apple token-merging" autocomplete="off"></label>',
            js_on_load=scripts.SEARCH,
            apply_default_css=False,
        )
        self.filters = gr.HTML(
            "", js_on_load=history_filter.SCRIPT, apply_default_css=False, elem_id="filters"
        )
        self.told = gr.HTML("", js_on_load=None, apply_default_css=False, elem_id="told")
        self.zip = gr.DownloadButton("Save", visible=False, elem_id="zip")
        self.wall = gr.HTML("", js_on_load=scripts.HISTORY, apply_default_css=False, elem_id="wall")
        self.visitor = gr.Textbox(visible=False)
        self.chosen = gr.State(Chosen())
        self.page = gr.State(1)
        self._tagged = self._changing(
            lambda store, run, owner, event: store.change_tags([run], owner, add=str(event.tag))
        )
        self._untagged = self._changing(
            lambda store, run, owner, event: store.change_tags([run], owner, remove=str(event.tag))
        )
        self._shared = self._changing(
            lambda store, run, owner, event: store.share(run, owner, event.on == "on")
        )

    def connect(self, page: gr.Blocks) -> None:
        """Wire the events, once everything is there."""
        mine: Any = {"js": visitors.SEND, **QUIET}
        last: Any = {"trigger_mode": "always_last", **mine}
        shown = [self.wall, self.page, self.chosen]
        asked = [self.chosen, self.visitor]
        page.load(self._opened, self.visitor, [*shown, self.filters, self.picture], **mine)
        self.search.search(self._searched, asked, shown, **last)
        self.filters.narrow(self._narrowed, asked, shown, **last)
        self.wall.turn(self._turned, asked, shown, **mine)
        there = [self.chosen, self.page, self.visitor]
        self.wall.remove(self._removed, there, shown, **mine)
        self.wall.act(self._acted, there, [*shown, self.filters, self.told, self.zip], **mine)
        card = [self.picture, self.filters, *shown]
        for event, act in (
            (self.picture.tag, self._tagged),
            (self.picture.untag, self._untagged),
            (self.picture.publish, self._shared),
        ):
            event(act, there, card, **mine)
        self.picture.close(self._closed, there, [self.picture, *shown], **mine)

    async def _opened(self, secret: str, request: gr.Request) -> tuple[Any, ...]:
        """`?q=`, `?page=` and the lists are where one was before; `?picture=` is one up close."""
        asker = self._services.asker(request, secret)
        asked = dict(request.query_params)
        chosen = chosen_of(asked, asked.get("q", "")[:MOST_SEARCH])
        page, picture = _page(asked.get("page", "1")), asked.get("picture", "")
        wall = await asyncio.to_thread(self._wall, chosen, page, asker.owner, picture)
        filters = await asyncio.to_thread(self._filters, chosen, asker.owner)
        return *wall, filters, await asyncio.to_thread(self._card, picture, asker)

    async def _searched(
        self, event: gr.EventData, chosen: Chosen, secret: str, request: gr.Request
    ) -> Any:
        owner = self._services.asker(request, secret).owner
        now = replace(chosen, words=str(event.words)[:MOST_SEARCH])
        return await asyncio.to_thread(self._wall, now, 1, owner)

    async def _narrowed(
        self, event: gr.EventData, chosen: Chosen, secret: str, request: gr.Request
    ) -> Any:
        owner = self._services.asker(request, secret).owner
        now = chosen_of(_asked(str(event.chosen)), chosen.words)
        return await asyncio.to_thread(self._wall, now, 1, owner)

    async def _turned(
        self, event: gr.EventData, chosen: Chosen, secret: str, request: gr.Request
    ) -> Any:
        owner = self._services.asker(request, secret).owner
        return await asyncio.to_thread(self._wall, chosen, _page(str(event.page)), owner)

    async def _removed(
        self,
        event: gr.EventData,
        chosen: Chosen,
        page: int,
        secret: str,
        request: gr.Request,
    ) -> tuple[str, int, Chosen]:
        store, owner = self._services.store, self._services.asker(request, secret).owner
        await asyncio.to_thread(store.delete_generation, str(event.run), owner)
        return await asyncio.to_thread(self._wall, chosen, page, owner)

    async def _acted(
        self,
        event: gr.EventData,
        chosen: Chosen,
        page: int,
        secret: str,
        request: gr.Request,
    ) -> tuple[Any, ...]:
        """What was asked for the selected pictures, or for all that are found."""
        return await asyncio.to_thread(
            self._act,
            str(event.what),
            str(event.runs).split() if event.everything is not True else None,
            str(event.tag),
            chosen,
            page,
            self._services.asker(request, secret).owner,
        )

    def _act(
        self,
        what: str,
        runs: Sequence[str] | None,
        tag: str,
        chosen: Chosen,
        page: int,
        owner: str,
    ) -> tuple[Any, ...]:
        """`runs` None are all that are found."""
        store = self._services.store
        closed = gr.DownloadButton(visible=False)
        try:
            if runs is None:
                runs = store.ids(owner, self._narrowing(chosen, owner), MOST_AT_ONCE)
            if what == "zip":
                return *(gr.skip(),) * 4, "", selection.download(self._services, runs, owner)
            told = selection.changed(store, what, runs, tag, owner)
        except ValueError as error:
            told = str(error)
        wall = self._wall(chosen, page, owner)
        said = f'<p class="sp-hint" role="status">{escape(told)}</p>'
        return *wall, self._filters(chosen, owner), said, closed

    def _changing(self, change: Change) -> Callable[..., Any]:
        """The event that changes the picture up close, and shows the page as it is then."""

        async def changed(
            request: gr.Request, event: gr.EventData, chosen: Chosen, page: int, secret: str
        ) -> tuple[Any, ...]:
            return await asyncio.to_thread(
                self._changed,
                str(event.run),
                lambda store, run, owner: change(store, run, owner, event),
                chosen,
                page,
                self._services.asker(request, secret),
            )

        return changed

    def _changed(
        self,
        run: str,
        change: Callable[[Store, str, str], object],
        chosen: Chosen,
        page: int,
        asker: Identity,
    ) -> tuple[Any, ...]:
        told = ""
        try:
            change(self._services.store, run, asker.owner)
        except ValueError as error:
            told = str(error)
        wall = self._wall(chosen, page, asker.owner, run)
        return self._card(run, asker, told), self._filters(chosen, asker.owner), *wall

    async def _closed(
        self, chosen: Chosen, page: int, secret: str, request: gr.Request
    ) -> tuple[Any, ...]:
        owner = self._services.asker(request, secret).owner
        return "", *await asyncio.to_thread(self._wall, chosen, page, owner)

    def _card(self, run: str, asker: Identity, told: str = "") -> str:
        if not run:
            return ""
        found = self._services.generation(run, asker)
        if found is None or not found.run.pictures:
            return picture_card.NOT_THERE
        known = self._known(found.run, self._services.findings.of(found.run))
        mine = found.owner == asker.owner != NOBODY
        return picture_card.card(found, known, mine=mine, told=told)

    def _known(self, run: Run, finding: Finding | None) -> str:
        """The shortest true answer about a picture: its twin's, else its settings' in an audit."""
        return twin_card.mark(self._services.store.twin(run.job.id, Twin)) or mark(finding)

    def _filters(self, chosen: Chosen, owner: str) -> str:
        store = self._services.store
        facets, tags = store.facets(owner), store.tags(owner)
        return history_filter.lists(chosen, facets, tags, self._services.findings)

    def _narrowing(self, chosen: Chosen, owner: str) -> Narrowing:
        # Only a verdict has to know everything that there is.
        facets = self._services.store.facets(owner) if chosen.verdict else ()
        return narrowing(chosen, facets, self._services.findings)

    def _wall(
        self, chosen: Chosen, page: int, owner: str, picture: str = ""
    ) -> tuple[str, int, Chosen]:
        """The wanted page, or the last one where there are fewer by now; its number, its search."""
        store = self._services.store
        wanted = self._narrowing(chosen, owner)
        skip = (max(page, 1) - 1) * PER_PAGE
        found = store.history(owner, chosen.words, limit=PER_PAGE, skip=skip, narrowing=wanted)
        page = min(max(page, 1), max(1, -(-found.total // PER_PAGE)))
        if found.total and not found.generations:
            skip = (page - 1) * PER_PAGE
            found = store.history(owner, chosen.words, limit=PER_PAGE, skip=skip, narrowing=wanted)
        shown = gallery.wall(
            found,
            chosen.words,
            page,
            PER_PAGE,
            self._marking(),
            _query(chosen, picture),
            narrowed=chosen.narrows,
        )
        return shown, page, chosen

    def _marking(self) -> Callable[[Run], str]:
        """What is known about a run's settings; each configuration is looked up once."""
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
            return told + self._known(run, known[which])

        return marked


def _query(chosen: Chosen, picture: str) -> str:
    """What the address says; the words are called `q` there."""
    parts = {field.name: getattr(chosen, field.name) for field in fields(Chosen)}
    parts = {"q": parts.pop("words"), **parts, "picture": picture}
    return urlencode({name: value for name, value in parts.items() if value}, errors="replace")


def _page(text: str) -> int:
    """The first one where a browser sent something else."""
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else 1


def _asked(text: str) -> dict[str, object]:
    """Choices as a browser sends them; none where it sent something else."""
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}
