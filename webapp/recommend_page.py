"""The third page: what matters to you, and the setting that serves it here, with its evidence."""

import asyncio
from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from audit.changes import short_name
from audit.pace import pace_changes, told
from audit.recommendation import recommend, stale
from audit.score import Audit, Recommendation
from core.optimization import Configuration
from core.request import Request
from webapp.export_card import elsewhere
from webapp.scores_card import names
from webapp.services import Services
from webapp.shell import QUIET
from webapp.wish_form import Wish, WishForm, wish_of
from webapp.words import AXIS_NAMES, chip, setting

LATEST = 200
"""Of the pictures made here, those whose times are looked at."""
EMPTY = (
    '<section class="sp-card"><div class="sp-empty" id="no-audit"><h2>Nothing to recommend yet</h2>'
    "<p>A recommendation here is never a guess: it rests on an audit of this machine with this "
    "model, and there is none so far. The quick plan takes a few minutes.</p>"
    '<p class="sp-actions"><a class="sp-plain" href="./audit">Start an audit</a></p></div>'
    "</section>"
)


class RecommendPage:
    """Components and what their events do. Made inside a page of a `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        gr.HTML(
            '<h1 class="sp-page-title">Recommend</h1><p class="sp-lead">Say what matters to you. '
            "The answer comes from the latest audit of this machine, with its evidence and with "
            "the reasons why everything else lost.</p>",
            apply_default_css=False,
            js_on_load=None,
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=280):
                self.wish = WishForm(services.platform.memory_bytes)
                self.audit = gr.Dropdown(
                    [], value=None, label="Resting on", visible=False, elem_id="resting"
                )
            with gr.Column(scale=8, min_width=300):
                self.answer = gr.HTML(
                    "", apply_default_css=False, js_on_load=None, elem_id="answer"
                )
        self.wished = gr.State(Wish())

    def connect(self, page: gr.Blocks) -> None:
        """Wire the events: every change answers at once, so there is no button to press.

        Opening the page only chooses the audit, whose change then answers with what is chosen by
        that time: a quick visitor has already clicked.
        """
        page.load(self._opened, None, [self.audit, self.wished, self.answer], **QUIET)
        self.wish.wish(
            self._wished,
            self.audit,
            [self.wished, self.answer],
            trigger_mode="always_last",
            **QUIET,
        )
        self.audit.change(self._answered, [self.wished, self.audit], self.answer, **QUIET)

    async def _opened(self, request: gr.Request) -> tuple[Any, Any, Any]:
        audits = await asyncio.to_thread(self._judged)
        asked = dict(request.query_params)
        wish = wish_of(asked) if asked else gr.skip()
        if not audits:
            return gr.skip(), wish, EMPTY
        choices = [(_called(audit), audit.audit_id) for audit in audits]
        best = audits[0].audit_id
        return gr.Dropdown(choices, value=best, visible=len(audits) > 1), wish, gr.skip()

    async def _wished(self, event: gr.EventData, audit_id: str | None) -> tuple[Wish, str]:
        sent = ("goal", "far", "memory", "hold", "number")
        wish = wish_of({name: getattr(event, name) for name in sent})
        return wish, await self._answered(wish, audit_id)

    def _judged(self) -> tuple[Audit, ...]:
        return self._services.findings.judged(self._services.platform, self._services.model)

    async def _answered(self, wish: Wish, audit_id: str | None) -> str:
        return f'<div data-said="{wish.number}">{await self._answer(wish, audit_id)}</div>'

    async def _answer(self, wish: Wish, audit_id: str | None) -> str:
        try:
            limit = wish.memory_bytes
        except ValueError as error:
            words = f'<p class="sp-alert sp-bad" role="alert">{escape(str(error))}</p>'
            return f'<section class="sp-card">{words}</section>'
        judged = await asyncio.to_thread(self._judged)
        audit = next((audit for audit in judged if audit.audit_id == audit_id), None)
        audit = audit or next(iter(judged), None)
        if audit is None:
            return EMPTY
        answer = recommend(
            audit.scores,
            wish.goal,
            baseline=audit.baseline,
            max_memory_bytes=limit,
            farthest=wish.farthest,
            must_hold=wish.must_hold,
            platform_fingerprint=audit.platform.fingerprint,
            audit_id=audit.audit_id,
        )
        others = (
            "" if answer.configuration is None else self._elsewhere(audit, answer.configuration)
        )
        moved = await asyncio.to_thread(self._moved, audit, answer)
        warnings = (*_warnings(audit, answer, wish, self._services), *moved)
        return card(audit, answer, warnings) + others

    def _moved(self, audit: Audit, answer: Recommendation) -> tuple[str, ...]:
        """What everybody's pictures since the audit say about its times."""
        changes = pace_changes(audit, self._services.store.generations(LATEST))
        return told(changes, answer.key, audit.baseline)

    def _elsewhere(self, audit: Audit, configuration: Configuration) -> str:
        """The answer for other programs, on the audit's own kind of picture."""
        request = Request(
            prompt=next(iter(self._services.examples), ""),
            model=self._services.model,
            width=audit.width,
            height=audit.height,
            num_inference_steps=audit.num_inference_steps,
        )
        return elsewhere((request,), configuration, audit.platform.device)


def _called(audit: Audit) -> str:
    unfinished = "" if audit.complete else ", not complete"
    return f"plan {audit.plan}, {audit.started_at[:16].replace('T', ' ')}{unfinished}"


def card(audit: Audit, answer: Recommendation, warnings: tuple[str, ...] = ()) -> str:
    """The answer, its evidence, its ties, and everybody who lost."""
    called = names(audit)
    alerts = "".join(f'<p class="sp-alert">{escape(warning)}</p>' for warning in warnings)
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in answer.evidence)
    head = (
        f'<h2 class="sp-answer">{setting(_title(audit, answer))}</h2>'
        if answer.key is not None
        else '<h2 class="sp-answer">No setting meets all of that</h2><p class="sp-hint">'
        "Loosen one of your answers: each setting’s reason stands below.</p>"
    )
    use = ""
    if answer.key is not None:
        use = (
            f'<p class="sp-actions"><a class="sp-plain sp-main" id="use" '
            f'href="./?use={escape(answer.key.replace(" ", "+"))}">Use these settings</a></p>'
        )
    ties = "".join(chip(called.get(key, key)) + " " for key in answer.ties)
    tied = f"<p>Cannot be told apart in time: {ties}</p>" if ties else ""
    evidence = (
        f'<h3 class="sp-title">Evidence</h3><ul class="sp-list" id="because">{sentences}</ul>'
        if sentences
        else ""
    )
    return (
        f'<section class="sp-card" data-goal="{answer.goal}">{alerts}{head}'
        f'<p class="sp-lead">{escape(answer.reason)}</p>{_settings(answer)}{use}{tied}{evidence}'
        f'<p class="sp-hint"><a href="./audit?run={escape(audit.audit_id)}">Audit '
        f"{escape(audit.audit_id)}</a>, plan {escape(audit.plan)}, "
        f"{escape(audit.started_at[:10])}</p></section>{_losers(answer, called)}"
    )


def _title(audit: Audit, answer: Recommendation) -> str:
    if answer.key == audit.baseline:
        return "Keep the defaults"
    start = next((s.configuration for s in audit.scores if s.key == audit.baseline), None)
    return short_name(answer.configuration or Configuration(), start or Configuration())


def _settings(answer: Recommendation) -> str:
    if answer.configuration is None:
        return ""
    items = " ".join(chip(f"{slot} {value}", "mine") for slot, value in answer.configuration)
    return f"<p>{items}</p>"


def _losers(answer: Recommendation, called: Mapping[str, str]) -> str:
    if not answer.losers:
        return ""
    rows = "".join(
        f"<li><b>{setting(called.get(loser.key, loser.key))}</b>"
        f"<span>{escape(loser.reason)}</span></li>"
        for loser in answer.losers
    )
    return (
        '<section class="sp-card"><h3 class="sp-title">Why not the others</h3>'
        f'<ul class="sp-losers" id="losers">{rows}</ul></section>'
    )


def _warnings(
    audit: Audit, answer: Recommendation, wish: Wish, services: Services
) -> tuple[str, ...]:
    said = []
    tried = {axis for score in audit.scores for axis, v in score.determinism.items() if v.trials}
    if unknown := [AXIS_NAMES[axis] for axis in wish.must_hold if axis not in tried]:
        said.append(
            f"This audit did not try {', '.join(unknown)} on any setting, so nobody knows: run a "
            "plan that does, or undo that answer."
        )
    if old := stale(answer, services.platform):
        said.append(f"Out of date: {old}. Run an audit here before you rely on it.")
    if audit.model_digest != services.model.digest:
        said.append(
            f"Measured with another model ({audit.model_name}): run an audit with this one."
        )
    if not audit.complete:
        said.append("This audit is not complete: the answer may change when it is.")
    return tuple(said)
