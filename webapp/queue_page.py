"""The page of what waits: one's own jobs to move and to cancel, and everybody's for an admin."""

import asyncio
from html import escape
from typing import Any

import gradio as gr

from webapp import visitors
from webapp.identity import Identity
from webapp.services import Services
from webapp.shell import QUIET
from webapp.ticket import Ticket
from webapp.words import about

EVERY = 2.0
"""Seconds between two looks."""
NOTHING = (
    '<section class="sp-card sp-empty" id="idle"><h2>Nothing waits</h2><p>A picture that you ask '
    "for stands here until it is made. Whoever was served longest ago comes next, so nobody waits "
    "for all of another’s pictures.</p>"
    '<p class="sp-actions"><a class="sp-plain sp-main" href="./">Make a picture</a></p></section>'
)
SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-act]");
  if (!button) return;
  const { act, job, to } = button.dataset;
  if (act === "move") trigger("move", { job, to });
  if (act === "cancel") trigger("cancel", { job });
});
"""


class QueuePage:
    """Components and what their events do. Made inside a page of a `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        gr.HTML(
            '<h1 class="sp-page-title">Queue</h1><p class="sp-lead">What runs now, and what waits '
            "for it. Your own pictures can change places with each other.</p>",
            apply_default_css=False,
            js_on_load=None,
        )
        self.line = gr.HTML("", js_on_load=SCRIPT, apply_default_css=False, elem_id="line")
        self.visitor = gr.Textbox(visible=False)
        self.timer = gr.Timer(EVERY)

    def connect(self, page: gr.Blocks) -> None:
        """Wire the events, once everything is there."""
        mine: Any = {"js": visitors.SEND, **QUIET}
        for look in (page.load, self.timer.tick):
            look(self._looked, self.visitor, self.line, **mine)
        self.line.move(self._moved, self.visitor, self.line, **mine)
        self.line.cancel(self._cancelled, self.visitor, self.line, **mine)

    async def _looked(self, secret: str, request: gr.Request) -> str:
        return await asyncio.to_thread(self._line, self._services.asker(request, secret))

    async def _moved(self, event: gr.EventData, secret: str, request: gr.Request) -> str:
        asker = self._services.asker(request, secret)
        to = str(event.to)
        if to.isdecimal() and to.isascii():
            self._services.jobs.move(str(event.job), asker.owner, int(to))
        return await asyncio.to_thread(self._line, asker)

    async def _cancelled(self, event: gr.EventData, secret: str, request: gr.Request) -> str:
        asker = self._services.asker(request, secret)
        anybodys = asker.role == "admin"
        self._services.jobs.cancel(str(event.job), asker.owner, anybodys=anybodys)
        return await asyncio.to_thread(self._line, asker)

    def _line(self, asker: Identity) -> str:
        return line(self._services.jobs.open_tickets(), asker)


def line(tickets: tuple[Ticket, ...], asker: Identity) -> str:
    """One's own jobs; an admin sees everybody's, but nobody else's prompts."""
    shown = [one for one in tickets if asker.sees(one.owner)]
    mine = [one.job.id for one in shown if one.owner == asker.owner and one.state == "waiting"]
    others = len(tickets) - len(shown)
    more = ""
    if others:
        jobs = "1 job of somebody else" if others == 1 else f"{others} jobs of others"
        more = f'<p class="sp-hint" id="others">And {jobs}, which only they and an admin see.</p>'
    if not shown:
        return NOTHING + more
    rows = "".join(_row(one, asker, mine) for one in shown)
    return (
        '<section class="sp-card"><div class="sp-scroll"><table class="sp-table sp-stack">'
        '<thead><tr><th scope="col">Whose</th><th scope="col">Job</th><th scope="col">State</th>'
        f'<th scope="col">Do</th></tr></thead><tbody>{rows}</tbody></table></div>{more}</section>'
    )


def _row(ticket: Ticket, asker: Identity, mine: list[str]) -> str:
    own = ticket.owner == asker.owner
    first, job = ticket.job.requests[0], escape(ticket.job.id)
    count = len(ticket.job.requests)
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    facts = f"{pictures}, {first.width} × {first.height}, {first.num_inference_steps} steps"
    prompt = f"<p>{escape(first.prompt)}</p>" if own else ""
    doing = _button("cancel", job, "Cancel")
    if ticket.job.id in mine and len(mine) > 1:
        place = mine.index(ticket.job.id)
        doing = (
            _button("move", job, "Earlier", place - 1, off=place == 0)
            + _button("move", job, "Later", place + 1, off=place == len(mine) - 1)
            + doing
        )
    cells = (
        ("Whose", "yours" if own else escape(ticket.owner.partition(":")[2])),
        ("Job", f'{prompt}<p class="sp-note sp-figures">{facts}</p>'),
        ("State", escape(_state(ticket))),
        ("Do", f'<div class="sp-actions">{doing}</div>'),
    )
    tds = "".join(f'<td data-label="{name}"><div>{cell}</div></td>' for name, cell in cells)
    return f'<tr data-job="{job}">{tds}</tr>'


def _state(ticket: Ticket) -> str:
    if ticket.state != "waiting":
        step = ticket.step
        return f"step {step.step} of {step.num_inference_steps}" if step else "getting ready"
    begins = f", begins in {about(ticket.wait)}" if ticket.wait is not None else ""
    return f"waits, {ticket.ahead} before it{begins}"


def _button(act: str, job: str, words: str, to: int | None = None, *, off: bool = False) -> str:
    place = f' data-to="{to}"' if to is not None else ""
    gone = " disabled" if off else ""
    return (
        f'<button type="button" class="sp-plain" data-act="{act}" data-job="{job}"{place}{gone}>'
        f"{words}</button>"
    )
