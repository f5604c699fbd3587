"""The page that puts any two pictures into one place; its address names them."""

import asyncio
from typing import Any

import gradio as gr

from audit.pictures import load_picture
from webapp import comparer, pair_card, visitors
from webapp.identity import Identity
from webapp.services import Services
from webapp.shell import QUIET


class ComparePage:
    """Components and what their events do. Made inside a page of a `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        gr.HTML('<h1 class="sp-page-title">Compare</h1>', apply_default_css=False, js_on_load=None)
        self.pair = gr.HTML("", js_on_load=comparer.SCRIPT, apply_default_css=False, elem_id="pair")
        self.visitor = gr.Textbox(visible=False)

    def connect(self, page: gr.Blocks) -> None:
        """Wire the events, once everything is there."""
        mine: Any = {"js": visitors.SEND, **QUIET}
        page.load(self._opened, self.visitor, self.pair, **mine)

    async def _opened(self, secret: str, request: gr.Request) -> str:
        """`?a=` and `?b=` are ids of pictures."""
        asked = request.query_params
        wanted = (asked.get("a", ""), asked.get("b", ""))
        asker = self._services.asker(request, secret)
        return await asyncio.to_thread(self._pair, *wanted, asker)

    def _pair(self, first: str, second: str, asker: Identity) -> str:
        if not (first and second):
            return pair_card.EMPTY
        found = [self._services.generation(one, asker) for one in (first, second)]
        a, b = found
        if a is None or b is None or not (a.run.pictures and b.run.pictures):
            return pair_card.NOT_THERE
        return pair_card.card(a, b, load_picture)
