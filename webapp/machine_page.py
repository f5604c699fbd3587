"""The page of the machine: what it can do, how busy it is, and where the time of its runs goes."""

import asyncio
from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
import torch

from core.hardware import in_words, look
from core.run import Run
from core.sizes import gigabytes
from core.workload import Workload, workload_of
from webapp import machine_card, visitors
from webapp.identity import Identity
from webapp.services import Services
from webapp.shell import QUIET
from webapp.utilization import Sample, Sampler

PERIOD = 2.0
"""Seconds between two looks of an open page."""
LATEST = 200
"""Runs that are looked at."""
SHOWN = 40
"""Bars in a plot at most."""


class MachinePage:
    """Components and what their events do. Made inside a page of a `gr.Blocks`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        worker = services.worker
        self._sampler = Sampler(
            torch.device(services.platform.device), lambda: worker.pid if worker else None
        )
        policy = services.policy
        _markup(
            '<h1 class="sp-page-title">Machine</h1><p class="sp-lead">What this machine is and '
            "can do, how busy it is now, and where the time and the memory of its pictures go.</p>"
        )
        with gr.Column(elem_classes="sp-card", visible=policy.metrics):
            _markup('<h2 class="sp-title">Now</h2>')
            self.live = _markup("", "now")
            with gr.Row(elem_classes="sp-buttons"):
                self.unload = gr.Button(
                    "Unload models",
                    size="sm",
                    elem_id="unload",
                    visible=policy.unload and worker is not None,
                )
            self.unloaded = _markup("", "unloaded")
        # Ticks while this page is open in a browser, and nowhere else.
        self.timer = gr.Timer(PERIOD, active=policy.metrics)
        with gr.Column(elem_classes="sp-card"):
            _markup('<h2 class="sp-title">Where time and memory go</h2>')
            self.kind = gr.Dropdown(
                [], value=None, label="Runs of one kind", visible=False, elem_id="kind"
            )
            self.runs = _markup("", "over-time")
        self.facts = _markup("", "facts")
        self.missing = _markup("", "missing-here")
        self.visitor = gr.Textbox(visible=False)

    def connect(self, page: gr.Blocks) -> None:
        """Wire the events."""
        mine: Any = {"js": visitors.SEND, **QUIET}
        shown = [self.kind, self.runs, self.facts, self.missing]
        page.load(self._opened, self.visitor, shown, **mine)
        if self._services.policy.metrics:
            page.load(self._look, None, self.live, **QUIET)
            self.timer.tick(self._look, None, self.live, **QUIET)
        self.kind.input(self._chosen, [self.kind, self.visitor], self.runs, **mine)
        if self._services.policy.unload:
            self.unload.click(self._unload, self.visitor, [self.unloaded, self.live], **mine)

    async def _opened(self, request: gr.Request, secret: str) -> tuple[Any, ...]:
        platform = self._services.platform
        words, missing, found = await asyncio.gather(
            asyncio.to_thread(lambda: in_words(platform, look(platform))),
            asyncio.to_thread(machine_card.missing, platform),
            asyncio.to_thread(self._kinds, self._services.asker(request, secret)),
        )
        runs = next(iter(found.values()), [])
        names = list(found)
        kind = gr.Dropdown(names, value=names[0], visible=True) if names else gr.skip()
        return kind, _shown(runs), machine_card.facts(platform, words), missing

    async def _chosen(self, request: gr.Request, kind: str, secret: str) -> str:
        found = await asyncio.to_thread(self._kinds, self._services.asker(request, secret))
        return _shown(found.get(kind, []))

    async def _look(self) -> str:
        return self._live(await asyncio.to_thread(self._sampler.look))

    async def _unload(self, request: gr.Request, secret: str) -> tuple[str, Any]:
        """Only while nothing is made: a picture half done would be waited for."""
        services, worker = self._services, self._services.worker
        if worker is None or not services.policy.unload:
            return "", gr.skip()
        if not services.asker(request, secret).manages:
            return _said("Only an admin may unload the models."), gr.skip()
        if services.jobs.busy:
            return _said("A picture is being made or waits. Unload when it is done."), gr.skip()
        before = await asyncio.to_thread(self._sampler.fresh)
        await asyncio.to_thread(worker.unload)
        after = await asyncio.to_thread(self._sampler.fresh)
        return _said(freed(before, after)), self._live((after,))

    def _live(self, samples: Sequence[Sample]) -> str:
        services = self._services
        census = services.jobs.census()
        queue = machine_card.queue_words(
            census["waiting"], census["running"], bool(services.audits.running)
        )
        return machine_card.live(samples, queue)

    def _kinds(self, asker: Identity) -> dict[str, list[Run]]:
        """The asker's runs, or everybody's, by kind; that of the latest first, and in each the
        oldest first. No prompt and no person is told."""
        services = self._services
        if services.policy.metrics:
            runs = services.store.generations(LATEST)
        else:
            own = services.store.history(asker.owner, limit=LATEST)
            runs = tuple(generation.run for generation in own.generations)
        found: dict[Workload, list[Run]] = {}
        for run in runs:
            if run.outcome == "ok" and run.usage.parts:
                found.setdefault(workload_of(run), []).insert(0, run)
        platform, model = services.platform, services.model
        named: dict[str, list[Run]] = {}
        for workload, of_kind in found.items():
            named.setdefault(machine_card.workload_name(workload, platform, model), of_kind)
        return named


def freed(before: Sample, after: Sample) -> str:
    """What unloading gave back, with both figures."""
    if before.gpu_bytes is not None and after.gpu_bytes is not None:
        return (
            f"Unloaded. GPU memory in use, all programs: {gigabytes(before.gpu_bytes)} before, "
            f"{gigabytes(after.gpu_bytes)} after."
        )
    if before.worker_bytes is None or after.worker_bytes is None:
        return "Unloaded."
    return (
        f"Unloaded. The process that makes pictures held {gigabytes(before.worker_bytes)} before, "
        f"and holds {gigabytes(after.worker_bytes)} now. The next picture loads the model again."
    )


def _shown(runs: Sequence[Run]) -> str:
    return machine_card.runs_card(runs[-SHOWN:])


def _said(sentence: str) -> str:
    return f'<p class="sp-hint" role="status">{escape(sentence)}</p>'


def _markup(value: str, identity: str | None = None) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, js_on_load=None, elem_id=identity)
