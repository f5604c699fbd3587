"""Jobs over HTTP: the same requests, limits and answers as everywhere, for other programs."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from core import __version__
from core.history import NOBODY
from webapp import doctor
from webapp.job_document import JobDocument
from webapp.order import Order, OrderError, options, read_json
from webapp.own_jobs import OwnJobs, Refused
from webapp.services import Services
from webapp.ticket import CLOSED

MOUNT = "/api/v1"
MOST_BODY = 1_000_000
"""Bytes of a request's body."""
LOOK = 0.15
"""Seconds between two looks at a job whose events are followed."""
_QUIET = 15.0
"""Seconds without news after which a stream says that it lives, for proxies that would end it."""
_DOCUMENT = TypeAdapter(JobDocument)

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]


class Errors(BaseModel):
    """Why something was not done, one sentence each."""

    errors: list[str]


def rest(services: Services, root_path: str = "") -> Application:
    """What is served below `MOUNT`, with its OpenAPI document. `root_path` is as in `serve`."""
    api = FastAPI(
        title="Seedproof",
        summary="Jobs: ask for pictures, follow them, cancel them, fetch them with their receipts.",
        version=__version__,
        docs_url=None,
        redoc_url=None,
    )
    api.add_exception_handler(Refused, _refused)
    api.add_exception_handler(HTTPException, _refused)
    api.add_exception_handler(RequestValidationError, _refused)
    jobs = OwnJobs(services=services, address=f"{root_path}{MOUNT}/jobs")
    api.include_router(_jobs(jobs))
    api.include_router(_machine(services))

    async def whole_path(scope: Scope, receive: Any, send: Any) -> None:
        # ASGI's path begins with the root path; of one that a proxy has stripped it does not.
        if root_path and not scope["path"].startswith(f"{root_path}/"):
            scope = {**scope, "path": root_path + scope["path"]}
        await api(scope, receive, send)

    return whole_path


def _owner(services: Services) -> Callable[..., str]:
    """The dependency of everything that is somebody's."""

    def owner(request: Request, _: Annotated[Any, Security(HTTPBearer(auto_error=False))]) -> str:
        found = services.program(request)
        if found == NOBODY:
            raise Refused(
                401,
                "Send Authorization: Bearer and 32 hexadecimal digits in lower case of your own "
                "choosing, which nobody can guess; jobs belong to them.",
            )
        return found

    return owner


def _jobs(jobs: OwnJobs) -> APIRouter:
    Owner = Annotated[str, Depends(_owner(jobs.services))]  # noqa: N806, a type
    router = APIRouter(prefix="/jobs", tags=["jobs"], responses=_errors(401))

    @router.post(
        "",
        status_code=202,
        summary="Ask for a batch of pictures",
        responses={
            200: {"model": JobDocument, "description": "The key came before: that job."},
            **_errors(400, 409, 413, 422, 429, 503),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": Order.model_json_schema()}},
            }
        },
    )
    async def ask(
        request: Request,
        response: Response,
        owner: Owner,
        idempotency_key: Annotated[
            str | None, Header(description="With it a request that is sent again is done once.")
        ] = None,
    ) -> JobDocument:
        body = await _body(request)
        try:
            order = read_json(body)
        except OrderError as error:
            raise Refused(error.status, *error.sentences) from None
        if idempotency_key is None:
            made, new = await run_in_threadpool(jobs.ask, order, owner), True
        else:
            made, new = await run_in_threadpool(jobs.ask_once, order, owner, idempotency_key, body)
        response.status_code = 202 if new else 200
        response.headers["Location"] = f"{jobs.address}/{made.id}"
        return made

    @router.get("", summary="Your jobs, the latest first", responses=_errors(422))
    def every(
        owner: Owner,
        limit: Annotated[int, Query(ge=1, le=100)] = 24,
        skip: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> list[JobDocument]:
        return jobs.every(owner, limit, skip)

    @router.get("/{job_id}", summary="How a job stands", responses=_errors(404))
    def look(job_id: str, owner: Owner) -> JobDocument:
        return jobs.look(job_id, owner)

    @router.delete("/{job_id}", summary="Cancel a job", responses=_errors(404))
    def cancel(job_id: str, owner: Owner) -> JobDocument:
        return jobs.cancel(job_id, owner)

    @router.get(
        "/{job_id}/events",
        summary="A job's steps as they happen",
        description="Server-sent events called `job`, whose data is the job. They end with it.",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}, **_errors(404)},
    )
    async def events(job_id: str, owner: Owner) -> StreamingResponse:
        first = await run_in_threadpool(jobs.look, job_id, owner)
        return StreamingResponse(
            _events(jobs, first, owner),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @router.get(
        "/{job_id}/images/{number}",
        summary="A picture with its receipt",
        response_class=FileResponse,
        responses={200: {"content": {"image/png": {}}}, **_errors(404, 409)},
    )
    def picture(job_id: str, number: int, owner: Owner) -> FileResponse:
        return FileResponse(
            jobs.picture(job_id, owner, number),
            media_type="image/png",
            headers={"Cache-Control": "private", "X-Content-Type-Options": "nosniff"},
        )

    return router


def _machine(services: Services) -> APIRouter:
    """What the machine can do. It is tried once: a platform stays what it is."""
    router = APIRouter(tags=["machine"], responses=_errors(401))
    depends = [Depends(_owner(services))]
    found = functools.cache(lambda: doctor.document(services.platform, services.model.path))

    @router.get("/doctor", summary="This platform and its optimizations", dependencies=depends)
    def what_it_is() -> dict[str, Any]:
        return found()

    @router.get("/options", summary="What may stand in a job's fields", dependencies=depends)
    def what_is_offered() -> dict[str, Any]:
        return options(services, found()["optimizations"])

    return router


async def _body(request: Request) -> bytes:
    """Never more than is allowed, whatever its header says."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY:
            raise Refused(413, f"A request has at most {MOST_BODY:,} bytes: shorten the prompts.")
    return bytes(body)


async def _events(jobs: OwnJobs, job: JobDocument, owner: str) -> AsyncIterator[bytes]:
    shown, told = None, time.monotonic()
    while True:
        news = (job.state, job.step, job.ahead)
        if news != shown:
            shown, told = news, time.monotonic()
            yield b"event: job\ndata: " + _DOCUMENT.dump_json(job) + b"\n\n"
        elif time.monotonic() - told > _QUIET:
            told = time.monotonic()
            yield b": nothing new\n\n"
        if job.state in CLOSED:
            return
        await asyncio.sleep(LOOK)
        try:
            job = await run_in_threadpool(jobs.look, job.id, owner)
        except Refused:
            return


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Errors} for status in statuses}


async def _refused(request: Request, error: Exception) -> JSONResponse:
    headers = None
    match error:
        case Refused():
            status, sentences = error.status, list(error.sentences)
        case HTTPException(status_code=404):
            status, sentences = 404, [f"There is no such address: {MOUNT}/openapi.json lists all."]
        case HTTPException():
            status, sentences, headers = error.status_code, [str(error.detail)], error.headers
        case RequestValidationError():
            status = 422
            sentences = [f"{one['loc'][-1]}: {one['msg']}." for one in error.errors()]
        case _:
            raise error
    if status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    return JSONResponse({"errors": sentences}, status_code=status, headers=headers)
