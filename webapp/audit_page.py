"""The second page: choose a plan, watch the rows arrive, read what each setting costs."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from audit.document import document
from audit.estimate import Costs, measured
from audit.judgement import judge
from audit.pictures import load_picture
from audit.plan import Plan
from audit.plan_file import PlanError, load_plan
from audit.report import write_report
from audit.schedule import expand
from audit.score import Audit
from core.database import StoreError
from core.platforms import Platform
from core.store import AuditEntry
from webapp import (
    articles_card,
    audit_card,
    comparer,
    platforms_card,
    row_card,
    scores_card,
    scripts,
    visitors,
)
from webapp.audits import Occupied
from webapp.services import Services
from webapp.shell import QUIET

LOOK = 0.4
"""Seconds between two looks at an audit that runs."""
FIRST = ("smoke", "quick", "standard", "certified")
"""The order in which plans are offered; others follow by name."""
FOR_ADMINS = "Only an admin may start or stop audits here: they take the machine from everybody."


class Forbidden(Exception):
    """The text is for who asked."""


class AuditPage:
    """Components and what their events do. Made inside a page of a `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        allowed = services.policy.plans
        there = (file.stem for file in services.plans.glob("*.toml"))
        names = sorted((n for n in there if allowed is None or n in allowed), key=_place)
        self._names = names
        usual = "quick" if "quick" in names else next(iter(names), None)
        gr.HTML(
            '<h1 class="sp-page-title">Audit</h1><p class="sp-lead">Rerun identical seeds under '
            "each setting, on this machine: what repeats bit for bit, what drifts and how far, "
            "what it saves.</p>",
            apply_default_css=False,
            js_on_load=None,
        )
        self.fold = gr.Accordion("Plans and earlier audits", elem_classes="sp-accordion")
        with self.fold, gr.Row(equal_height=False):
            with gr.Column(scale=6, min_width=280):
                self.plan = gr.Radio(names, value=usual, label="Plan", elem_id="plan")
                self.promise = _html("", "promise")
                self.start = gr.Button("Start", variant="primary", elem_id="start", min_width=120)
            with gr.Column(scale=5, min_width=280):
                self.listing = _html("", "listing")
        self.status = gr.HTML(
            audit_card.NONE_YET,
            js_on_load=scripts.AUDIT,
            apply_default_css=False,
            elem_id="status",
        )
        with gr.Row(visible=False, elem_classes="sp-buttons") as self.doors:
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop", min_width=90)
            self.resume = gr.Button("Resume", variant="primary", elem_id="resume", min_width=90)
            self.report = gr.DownloadButton("Report (HTML)", elem_id="report", min_width=130)
            self.record = gr.DownloadButton("Record (JSON)", elem_id="record", min_width=130)
        self.table = gr.HTML("", js_on_load=scripts.PICK, apply_default_css=False, elem_id="table")
        self.row = gr.HTML(
            "", js_on_load=comparer.SCRIPT, apply_default_css=False, elem_id="picked"
        )
        self.maps = gr.HTML("", js_on_load=scripts.PICK, apply_default_css=False, elem_id="maps")
        self.articles = _html("", "articles")
        self.visitor = gr.Textbox(visible=False)
        self.shown = gr.State("")

    def connect(self, page: gr.Blocks) -> None:
        """Wire the events, once everything is there."""
        view = [
            self.shown,
            self.fold,
            self.listing,
            self.status,
            self.doors,
            self.stop,
            self.resume,
            self.report,
            self.record,
            self.table,
            self.row,
            self.maps,
            self.articles,
        ]
        mine: Any = {"js": visitors.SEND, **QUIET}
        page.load(self._opened, self.visitor, view, **mine)
        # One event for both, so that a slow first answer never replaces the chosen plan's.
        gr.on(
            [page.load, self.plan.change],
            self._promised,
            self.plan,
            [self.promise, self.start],
            trigger_mode="always_last",
            **QUIET,
        )
        self.start.click(self._started, [self.plan, self.visitor], view, **mine)
        self.resume.click(self._resumed, [self.shown, self.visitor], view, **mine)
        self.stop.click(self._stopped, [self.shown, self.visitor], self.stop, **mine)
        for rows in (self.table, self.maps):
            rows.pick(self._picked, self.shown, [self.row, self.table, self.maps], **QUIET)

    def _plan(self, name: str) -> Plan:
        services = self._services
        if name not in self._names:
            raise PlanError(f"The plan {name!r} is not offered here.")
        return load_plan(services.plans / f"{name}.toml", services.model, services.platform)

    def _promised(self, name: str | None, request: gr.Request) -> tuple[str, Any]:
        if name is None:
            why = self._services.policy.why_no_plans
            return audit_card.gone(why), gr.Button(interactive=False)
        try:
            plan, costs = self._plan(name), self._costs()
            words = audit_card.promise(plan, self._services.platform, costs)
        except PlanError as error:
            return audit_card.gone(str(error)), gr.Button(interactive=False)
        if not self._services.asker(request, "").manages:
            return words + f'<p class="sp-hint">{FOR_ADMINS}</p>', gr.Button(interactive=False)
        return words, gr.Button(interactive=self._services.audits.running is None)

    def _costs(self) -> Costs | None:
        """What a picture took here lately, at best: the others may have waited for something."""
        here, model = self._services.platform.fingerprint, self._services.model.digest
        costs = (
            measured([run])
            for run in self._services.store.generations(20)
            if run.environment.fingerprint == here and run.job.requests[0].model.digest == model
        )
        return min((cost for cost in costs if cost), key=lambda cost: cost.row_step, default=None)

    async def _opened(self, secret: str, request: gr.Request) -> AsyncIterator[Any]:
        """`?run=` shows an audit again, live where it still runs."""
        audit_id = request.query_params.get("run", "")
        if audit_id:
            async for update in self._follow(audit_id, self._services.asker(request, secret).owner):
                yield update
        else:
            yield self._nothing(audit_card.NONE_YET)

    async def _started(self, name: str, secret: str, request: gr.Request) -> AsyncIterator[Any]:
        owner = self._services.asker(request, secret).owner
        try:
            self._require_admin(request)
            plan = self._plan(name)
            audit_id = self._services.audits.start(plan, self._services.model, owner)
        except (Forbidden, Occupied, PlanError, StoreError) as error:
            yield self._nothing(audit_card.gone(str(error)))
            return
        async for update in self._follow(audit_id, owner):
            yield update

    async def _resumed(self, audit_id: str, secret: str, request: gr.Request) -> AsyncIterator[Any]:
        owner = self._services.asker(request, secret).owner
        try:
            self._require_admin(request)
            self._services.audits.resume(audit_id, owner)
        except (Forbidden, Occupied, StoreError) as error:
            yield self._nothing(audit_card.gone(str(error)))
            return
        async for update in self._follow(audit_id, owner):
            yield update

    def _require_admin(self, request: gr.Request) -> None:
        if not self._services.asker(request, "").manages:
            raise Forbidden(FOR_ADMINS)

    def _stopped(self, audit_id: str, secret: str, request: gr.Request) -> Any:
        try:
            self._require_admin(request)
        except Forbidden:
            return gr.Button("Only an admin", interactive=False)
        asker = self._services.asker(request, secret)
        stopping = self._services.audits.stop(audit_id, asker.owner, anybodys=asker.role == "admin")
        return gr.Button("Stopping", interactive=False) if stopping else gr.skip()

    def _nothing(self, words: str) -> tuple[Any, ...]:
        entries = self._services.store.audits()
        listing = audit_card.listing(entries, self._services.audits.running)
        closed = (gr.Row(visible=False), *(gr.skip(),) * 4)
        return ("", gr.Accordion(open=True), listing, words, *closed, "", "", "", "")

    async def _follow(self, audit_id: str, owner: str) -> AsyncIterator[Any]:
        """Look until nothing changes any more; leaving only stops the looking."""
        store, audits = self._services.store, self._services.audits
        try:
            entry = store.audit(audit_id)
        except StoreError as error:
            yield self._nothing(audit_card.gone(str(error)))
            return
        total = await asyncio.to_thread(self._total, audit_id)
        result: Audit | None = None
        judged, words, first = -1, "", True
        while True:
            sitting, running = audits.sitting(audit_id), audits.running == audit_id
            fresh = sitting is None or sitting.judged != judged
            entry = store.audit(audit_id)
            if fresh or not running:
                judged = sitting.judged if sitting else 0
                result = await asyncio.to_thread(self._result, entry, running)
            said = audit_card.status(entry, sitting, total, result)
            if said != words or fresh or not running:
                mine = sitting is not None and sitting.owner == owner
                yield self._view(entry, said, result if fresh or not running else None, first, mine)
                words, first = said, False
            if not running:
                break
            await asyncio.sleep(LOOK)
        if result is not None:
            report, record = await asyncio.to_thread(self._files, result)
            yield (
                *(gr.skip(),) * 7,
                gr.DownloadButton(value=str(report), visible=True),
                gr.DownloadButton(value=str(record), visible=True),
                *(gr.skip(),) * 4,
            )

    def _view(
        self, entry: AuditEntry, said: str, result: Audit | None, first: bool, mine: bool
    ) -> tuple[Any, ...]:
        running = self._services.audits.running
        runs = running == entry.id
        stop = "Stop" if mine else "Only who started it can stop it"
        rows = result is not None and bool(result.scores)
        return (
            entry.id,
            gr.Accordion(open=False) if first else gr.skip(),
            audit_card.listing(self._services.store.audits(), running) if rows else gr.skip(),
            said,
            gr.Row(visible=True),
            gr.Button(stop, visible=runs, interactive=runs and mine),
            gr.Button(visible=not runs and entry.finished_at is None, interactive=not running),
            *(gr.DownloadButton(visible=False),) * 2,
            scores_card.table(result) if result and rows else _waiting(first),
            "" if first else gr.skip(),
            scores_card.maps(result) if result and rows else gr.skip(),
            _beside(result) if result and rows else _emptied(first),
        )

    def _total(self, audit_id: str) -> int:
        store = self._services.store
        return len(expand(store.plan(audit_id, Plan), store.platform(audit_id, Platform)))

    def _result(self, entry: AuditEntry, running: bool) -> Audit | None:
        """What is stored; an audit that another process left unjudged is judged now.

        A complete result stays as it is: a later version may plan otherwise, and would then find
        none of the runs that it was judged on.
        """
        result = self._services.store.result(entry.id, Audit)
        if running or (result and (result.complete or result.runs_done == entry.runs)):
            return result
        return judge(self._services.store, entry.id)

    def _files(self, result: Audit) -> tuple[Path, Path]:
        """The report and the record, written anew where the result is."""
        folder = self._services.reports
        # A plan's name is whatever its author wrote.
        plan = re.sub(r"[^A-Za-z0-9-]+", "-", result.plan)[:60]
        name = f"seedproof-{plan}-{result.audit_id}-{result.runs_done}"
        report, record = folder / f"{name}.html", folder / f"{name}.json"
        if not report.exists():
            write_report(result, report, load_picture)
            record.write_text(json.dumps(document(result), indent=2), encoding="utf-8")
        return report, record

    async def _picked(self, event: gr.EventData, audit_id: str) -> tuple[Any, Any, Any]:
        result = self._services.findings.audit(audit_id)
        which = str(event.which)
        rows = {str(place): score for place, score in enumerate(result.scores)} if result else {}
        if result is None or which not in rows:
            return gr.skip(), gr.skip(), gr.skip()
        score = rows[which]
        card = await asyncio.to_thread(row_card.card, result, score)
        return card, scores_card.table(result, which), scores_card.maps(result, which)


def _beside(result: Audit) -> str:
    """Other platforms, and other people's figures."""
    return platforms_card.platforms(result) + articles_card.articles(result)


def _waiting(first: bool) -> Any:
    return audit_card.NO_ROWS_YET if first else gr.skip()


def _emptied(first: bool) -> Any:
    """What another audit left goes with the first look at this one."""
    return "" if first else gr.skip()


def _html(value: str, name: str) -> gr.HTML:
    return gr.HTML(value, elem_id=name, apply_default_css=False, js_on_load=None)


def _place(name: str) -> tuple[int, str]:
    return (FIRST.index(name) if name in FIRST else len(FIRST)), name
