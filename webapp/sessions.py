"""Who is signed in: a random token in a browser's cookie, its digest here, in memory.

A restart signs everybody out. Nothing is signed or encrypted, because nothing is in the cookie.
"""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from webapp.accounts import Account, Accounts
from webapp.identity import Asked, Identity, account

COOKIE = "seedproof-session"
LASTS = 7 * 24 * 3600.0
"""Seconds."""
_MOST = 10_000


@dataclass(frozen=True)
class _Session:
    account: Account
    ends: float


class Sessions:
    """An `Identify`: the account that a cookie's token was given to."""

    def __init__(self, accounts: Accounts, clock: Callable[[], float] = time.monotonic) -> None:
        self._accounts = accounts
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    def begin(self, signed_in: Account) -> str:
        """A new token, for whoever proved to be this account."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[_digest(token)] = _Session(signed_in, self._clock() + LASTS)
            while len(self._sessions) > _MOST:
                self._sessions.popitem(last=False)
        return token

    def end(self, asked: Asked) -> None:
        with self._lock:
            self._sessions.pop(_digest(asked.cookies.get(COOKIE, "")), None)

    def __call__(self, asked: Asked) -> Identity | None:
        """None also where the account is gone, or its password or its role was changed since."""
        token = asked.cookies.get(COOKIE, "")
        with self._lock:
            session = self._sessions.get(_digest(token))
            if session is not None and session.ends <= self._clock():
                del self._sessions[_digest(token)]
                session = None
        if session is None or self._accounts.find(session.account.name) != session.account:
            return None
        return account(session.account.name, session.account.role)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
