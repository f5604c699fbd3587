"""Passwords as they are kept: scrypt (RFC 7914) with a salt each, compared in constant time."""

import base64
import hashlib
import hmac
import secrets
import threading
import unicodedata
from dataclasses import dataclass

FEWEST, MOST = 8, 1024
"""Letters of a password."""
COST = (2**15, 8, 3)
"""N, r and p of scrypt: 32 MB of memory for each try."""
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Hashed:
    """What is kept of a password."""

    cost: tuple[int, int, int]
    salt: bytes
    digest: bytes

    def __str__(self) -> str:
        """One word without a colon, as the accounts' file has it."""
        parts = (base64.b64encode(part).decode() for part in (self.salt, self.digest))
        return "$".join(("scrypt", *map(str, self.cost), *parts))

    def is_of(self, password: str) -> bool:
        """Takes as long whether it is or not."""
        return hmac.compare_digest(_digest(password, self.salt, self.cost), self.digest)


def hashed(password: str, cost: tuple[int, int, int] = COST) -> Hashed:
    """With a new salt. Raises ValueError with a sentence where it is too short to be kept."""
    if not FEWEST <= len(password) <= MOST:
        raise ValueError(f"A password has {FEWEST} letters or more, and at most {MOST}.")
    salt = secrets.token_bytes(16)
    return Hashed(cost=cost, salt=salt, digest=_digest(password, salt, cost))


def read_hashed(text: str) -> Hashed:
    """What `str` of one gave. Raises ValueError for anything else."""
    kind, *cost, salt, digest = text.split("$")
    n, r, p = (int(number) for number in cost)
    if kind != "scrypt" or not 1 < n <= 2**20 or not 0 < r <= 32 or not 0 < p <= 16:
        raise ValueError(f"{kind!r} with these numbers is no hash of ours")
    raw = (base64.b64decode(part, validate=True) for part in (salt, digest))
    return Hashed(cost=(n, r, p), salt=next(raw), digest=next(raw))


def _digest(password: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    # The same letters may be typed as other code points on another keyboard.
    typed = unicodedata.normalize("NFKC", password).encode()
    # So that many tries at once take no more memory than one.
    with _ONE_AT_A_TIME:
        return hashlib.scrypt(typed, salt=salt, n=n, r=r, p=p, maxmem=2**20 + 130 * n * r)
