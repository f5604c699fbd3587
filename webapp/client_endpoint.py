"""The one event that programs may call with `gradio_client`: a job from asking to its pictures."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.events import api
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from core.history import NOBODY
from webapp.job_document import JobDocument
from webapp.order import Order, OrderError, read_fields
from webapp.own_jobs import OwnJobs, Refused
from webapp.rest import LOOK, MOUNT
from webapp.services import Services
from webapp.ticket import CLOSED

NAME = "generate"
_DOCUMENT = TypeAdapter(JobDocument)


def client_endpoint(services: Services) -> None:
    """Offer `/generate` with the fields of an order. Called inside a `gr.Blocks`.

    It yields the job as JSON whenever it moves on; the last one has `files`, which the client
    downloads. A client that cancels cancels its job.
    """

    async def generate(request: gr.Request, *values: Any) -> AsyncIterator[dict[str, Any]]:
        owner = services.program(request)
        if owner == NOBODY:
            raise gr.Error(
                "Make the client with headers={'Authorization': 'Bearer …'} and 32 hexadecimal "
                "digits in lower case of your own choosing.",
                print_exception=False,
            )
        asked = request.request
        root_path = "" if asked is None else asked.scope.get("root_path", "")
        jobs = OwnJobs(services=services, address=f"{root_path}{MOUNT}/jobs")
        try:
            order = read_fields(dict(zip(Order.model_fields, values, strict=True)))
            job = await run_in_threadpool(jobs.ask, order, owner)
            shown = None
            try:
                while True:
                    if (news := (job.state, job.step, job.ahead)) != shown:
                        shown = news
                        yield await run_in_threadpool(_answer, jobs, job, owner)
                    if job.state in CLOSED:
                        return
                    await asyncio.sleep(LOOK)
                    job = await run_in_threadpool(jobs.look, job.id, owner)
            finally:
                services.jobs.cancel(job.id, owner)
        except (OrderError, Refused) as error:
            raise gr.Error(str(error), print_exception=False) from None

    fields = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=field.annotation,
            **({} if field.is_required() else {"default": field.default}),
        )
        for name, field in Order.model_fields.items()
    ]
    asker = inspect.Parameter(
        "request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request
    )
    # Gradio reads from the signature which fields there are, and where the request goes.
    generate.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [asker, *fields], return_annotation=dict[str, Any]
    )
    generate.__annotations__ = {one.name: one.annotation for one in (asker, *fields)}
    api(generate, api_name=NAME, api_description=_DESCRIPTION, concurrency_limit=None)


_DESCRIPTION = "Make a batch of pictures; yields the job as it moves on, and its files at the end."


def _answer(jobs: OwnJobs, job: JobDocument, owner: str) -> dict[str, Any]:
    """A job as JSON, with the files of its pictures as Gradio's clients download them."""
    found: dict[str, Any] = _DOCUMENT.dump_python(job, mode="json")
    files = [jobs.picture(job.id, owner, number) for number in range(len(job.images or ()))]
    return {**found, "files": [FileData(path=str(file)).model_dump() for file in files]}
