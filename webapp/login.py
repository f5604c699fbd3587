"""Signing in and out: the two addresses that a server with accounts has besides its pages."""

import asyncio
import math
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from webapp.accounts import Accounts
from webapp.attempts import Attempts
from webapp.login_page import login_page, safe_place
from webapp.passwords import MOST
from webapp.sessions import COOKIE, LASTS, Sessions

_MOST_BYTES = 20_000
"""Of what the form sends."""
WRONG = "That name and password do not belong together. Check both, and try again."


@dataclass(frozen=True)
class Login:
    """The accounts, who is signed in, and who tried."""

    accounts: Accounts
    sessions: Sessions
    attempts: Attempts = field(default_factory=Attempts)

    async def answer(self, request: Request) -> Response:
        """The form, or what follows from having sent it."""
        if request.method != "POST":
            return login_page(place=safe_place(request.query_params.get("place", "")))
        sent = await _sent(request)
        if sent is None:
            return login_page(problem="The form was too long to be read.", status=413)
        name, password = sent.get("name", "").strip().lower(), sent.get("password", "")
        place = safe_place(sent.get("place", ""))
        address = request.client.host if request.client else ""
        if wait := self.attempts.begin(address, name):
            minutes = math.ceil(wait / 60)
            problem = (
                f"Too many tries. Wait {minutes} minute{'s' if minutes > 1 else ''}, and try again."
            )
            page = login_page(place=place, name=name, problem=problem, status=429)
            page.headers["retry-after"] = str(math.ceil(wait))
            return page
        found = None
        if len(password) <= MOST:
            found = await asyncio.to_thread(self.accounts.check, name, password)
        if found is None:
            return login_page(place=place, name=name, problem=WRONG, status=401)
        self.attempts.succeeded(address, name)
        # A new token: one that somebody put into this browser beforehand would be known to them.
        self.sessions.end(request)
        answer = RedirectResponse(f"./{place}", status_code=303)
        answer.set_cookie(
            COOKIE,
            self.sessions.begin(found),
            max_age=int(LASTS),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        answer.headers["cache-control"] = "no-store"
        return answer

    def leave(self, request: Request) -> Response:
        """Sign out; only by a POST, so that no link or picture elsewhere does it."""
        if request.method != "POST":
            return RedirectResponse("./", status_code=303)
        self.sessions.end(request)
        answer = RedirectResponse("./login", status_code=303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
        return answer


async def _sent(request: Request) -> dict[str, str] | None:
    """The fields of a form; None where it is longer than any form of ours."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            return None
    read = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in read.items()}
