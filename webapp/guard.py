"""What stands before a server with accounts: nobody in unasked, nobody at another's things.

Gradio gives any file it may read, and any stream of events, to whoever knows its name. Behind this
guard both belong to an owner. What of Gradio's own addresses the pages do not use is closed.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core import thumbnail
from core.store import Store
from webapp.event_body import again, named, whole
from webapp.holdings import Holdings
from webapp.identity import Identify, Identity
from webapp.login import Login
from webapp.login_page import refusal_page

OPEN = frozenset(
    {"/healthz", "/readyz", "/metrics", "/gradio_api/startup-events", "/favicon.ico", "/robots.txt"}
)
"""They say nothing about anybody, see `webapp.health`; Gradio asks the fourth when it starts."""
API = "/gradio_api/"
_HEARTBEAT = re.compile(r"heartbeat/([^/]+)")
SIGN_IN = "Sign in first: open this server in a browser."
NO_NAME = "This server is reached through its proxy, which says who you are. Open it there."
ELSEWHERE = "This request comes from another site. Open this server itself, and try again."
NOT_YOURS = "There is no such thing here, or it is not yours."


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the guard goes by."""

    identify: Identify
    store: Store
    reports: Path
    """Reports of audits, which every account may read."""
    login: Login | None = None
    """None where a proxy says who somebody is."""
    holdings: Holdings = field(default_factory=Holdings)

    def may_read(self, identity: Identity, named: str) -> bool:
        """Whether a file, as Gradio's address names it, is for this one. Anything else is not."""
        try:
            path = Path(named).resolve()
        except (OSError, ValueError, RuntimeError):
            return False
        if self.holdings.has(str(path), identity.owner):
            return True
        picture = thumbnail.shown_by(path)
        if picture.parent == self.store.pictures.resolve():
            return identity.role == "admin" or self.store.shows(identity.owner, picture.name)
        # Gradio copies what it offers for download, and keeps its name.
        copied = path.suffix in (".html", ".json") and (self.reports / path.name).is_file()
        return copied and not self.holdings.known(str(path))


class Guard:
    """ASGI middleware. Who may come in is found out once, and every address has its rule."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, path = Request(scope, receive), _route(scope)
        if path in OPEN:
            await self._app(scope, receive, send)
            return
        if _from_elsewhere(request):
            await _refused(ELSEWHERE, 403)(scope, receive, send)
            return
        login, send = self._rules.login, _unframed(send)
        if login is not None and path in ("/login", "/logout"):
            signing = path == "/login"
            answer = await login.answer(request) if signing else login.leave(request)
            await answer(scope, receive, send)
            return
        identity = self._rules.identify(request)
        if identity is None:
            await self._unknown(request, path)(scope, receive, send)
        elif path == "/account":
            await self._account(identity)(scope, receive, send)
        elif path.startswith(API) or path == API.rstrip("/"):
            await self._gradio(identity, path.removeprefix(API), request, send)
        else:
            await self._app(scope, receive, send)

    def _unknown(self, request: Request, path: str) -> Response:
        asks_for_page = "text/html" in request.headers.get("accept", "")
        page = request.method == "GET" and path.count("/") == 1 and asks_for_page
        if self._rules.login is None:
            # Gradio looks at its own door when it starts, and gives up where it gets a 403.
            return refusal_page(NO_NAME, 401) if page else _refused(NO_NAME, 401)
        if not page:
            return _refused(SIGN_IN, 401)
        query = f"?{request.url.query}" if request.url.query else ""
        answer = RedirectResponse("./login", status_code=303)
        if place := path.removeprefix("/") + query:
            url = request.url.replace_query_params(place=place).query
            answer.headers["location"] = f"./login?{url}"
        answer.headers["cache-control"] = "no-store"
        return answer

    def _account(self, identity: Identity) -> Response:
        """For the bar of a page, which sets it as text."""
        leave = self._rules.login is not None
        told = {"name": identity.name, "role": identity.role, "leave": leave}
        return JSONResponse(told, headers={"cache-control": "no-store"})

    async def _gradio(self, identity: Identity, path: str, request: Request, send: Send) -> None:
        """One rule for each of Gradio's addresses that the pages use; the others are closed."""
        scope, receive = request.scope, request.receive
        reads = request.method in ("GET", "HEAD")
        fine = False
        if reads and path.startswith("file="):
            fine = await asyncio.to_thread(
                self._rules.may_read, identity, path.removeprefix("file=")
            )
            send = _private(send)
        elif reads and path == "queue/data":
            fine = self._hold(request.query_params.getlist("session_hash"), identity)
        elif reads and path == "upload_progress":
            fine = self._hold(request.query_params.getlist("upload_id"), identity)
        elif reads and (found := _HEARTBEAT.fullmatch(path)):
            fine = self._hold([found[1]], identity)
        elif request.method == "POST" and path in ("queue/join", "cancel"):
            body = await whole(request)
            fine = body is not None and self._own_event(body, identity)
            receive = again(body or b"", receive)
        elif request.method == "POST" and path == "upload":
            watched = request.query_params.getlist("upload_id")
            fine = not watched or self._hold(watched, identity)
            send = self._noting(identity, send)
        elif reads:
            # What events there are: the same for everybody, and asked for by Gradio's client.
            fine = path == "info"
        answer: ASGIApp = self._app if fine else _refused(NOT_YOURS, 404)
        await answer(scope, receive, send)

    def _hold(self, drawn: list[str], identity: Identity) -> bool:
        """Whether all of them, drawn by a browser, are one's own: whose they were at first."""
        taken = [self._rules.holdings.take(f"drawn {one}", identity.owner) for one in drawn]
        return bool(taken) and all(taken)

    def _own_event(self, body: bytes, identity: Identity) -> bool:
        """Whether an event is of a session of one's own, and every file in it is one's own.

        Gradio reads any uploaded file that an event names, whoever uploaded it.
        """
        found = named(body)
        if found is None or not self._hold(found.sessions, identity):
            return False
        return all(self._uploaded(one, identity) for one in found.files)

    def _uploaded(self, path: str, identity: Identity) -> bool:
        try:
            return self._rules.holdings.has(str(Path(path).resolve()), identity.owner)
        except (OSError, ValueError, RuntimeError):
            return False

    def _noting(self, identity: Identity, send: Send) -> Send:
        """Whoever uploads holds what Gradio answers: a list of paths."""
        status, body = 0, b""

        async def noting(message: Message) -> None:
            nonlocal status, body
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                body += message.get("body", b"")
                if status == 200 and not message.get("more_body", False):
                    for path in json.loads(body):
                        resolved = str(Path(path).resolve())
                        self._rules.holdings.give(resolved, identity.owner)
            await send(message)

        return noting


def _route(scope: Scope) -> str:
    """The path below the app's own root, as starlette's router has it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and (path == root or path.startswith(f"{root}/")):
        return path[len(root) :]
    return path


def _from_elsewhere(request: Request) -> bool:
    """Whether a page of another site sends or reads this, with the cookies of its visitor.

    Reading counts, because Gradio lets every origin read. A link that one follows does not.
    Browsers say where a request is from on HTTPS and on one's own machine; elsewhere the Origin
    is compared, which they send wherever another page could read the answer.
    """
    if site := request.headers.get("sec-fetch-site"):
        follows = request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate"
        return site not in ("same-origin", "none") and not follows
    if origin := request.headers.get("origin"):
        return urlsplit(origin).netloc != request.headers.get("host", "")
    return False


def _refused(sentence: str, status: int) -> Response:
    return JSONResponse({"detail": sentence}, status, headers={"cache-control": "no-store"})


def _private(send: Send) -> Send:
    """No cache between us and the browser keeps it, and the browser asks again each time."""
    return _with("cache-control", "private, no-cache", send)


def _unframed(send: Send) -> Send:
    """No other site shows it inside its own, where clicks could be led astray."""
    return _with("x-frame-options", "SAMEORIGIN", send)


def _with(name: str, value: str, send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)[name] = value
        await send(message)

    return sending
