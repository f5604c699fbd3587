"""How many pictures are asked for at once, and whether they may be computed together."""

import uuid
from dataclasses import replace
from typing import Any

import gradio as gr

from core.request import Job
from webapp.batch_choice import choose, room
from webapp.cli_request import pictures
from webapp.services import Services

MOST_PICTURES = 8
"""As many as one person may have waiting."""


class BatchForm:
    """Made inside a `gr.Blocks`, folded away."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.count = gr.Slider(
            1,
            MOST_PICTURES,
            value=1,
            step=1,
            label="Pictures, one seed after another",
            elem_id="pictures",
        )
        self.allowed = gr.Checkbox(
            value=False,
            label="Compute several together even where that changes pixels",
            info="Without it, pictures share a batch only where an audit here found that it leaves "
            "them as they are.",
            elem_id="batching",
        )

    @property
    def inputs(self) -> list[Any]:
        return [self.count, self.allowed]

    def jobs(self, job: Job, count: int, allowed: bool) -> tuple[Job, ...]:
        """One picture's job as the jobs of several, each with the reason for its batch."""
        if not 1 <= count <= MOST_PICTURES:
            raise ValueError(f"From 1 to {MOST_PICTURES} pictures can be asked for at once.")
        if count == 1:
            return (job,)
        services = self._services
        requests = pictures(job.requests[0], count)
        made = choose(
            count,
            requests[0],
            job.configuration,
            services.platform,
            services.store,
            services.findings,
            allowed=allowed,
            room=room(services.platform, services.worker.pid if services.worker else None),
        )
        notes = (*job.notes, made.reason)
        return tuple(
            replace(job, id=uuid.uuid4().hex, requests=batch, notes=notes)
            for batch in made.split(requests)
        )
