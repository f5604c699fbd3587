"""A request that is sent again is done once: keys that programs choose, and what they stood for."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

LONGEST = 200
"""Characters of a key."""


class KeyReused(Exception):
    """The key stood for another request; the text is for who sent it."""


class IdempotencyKeys:
    """Remembers the latest keys of everybody, in memory: a restarted server knows none."""

    def __init__(self, remembered: int = 10_000) -> None:
        self._remembered = remembered
        self._known: OrderedDict[tuple[str, str], tuple[str, str]] = OrderedDict()
        self._lock = threading.Lock()

    def once(self, owner: str, key: str, body: bytes, make: Callable[[], str]) -> tuple[str, bool]:
        """The id that `make` gave when this key first came, and whether that is now.

        Raises KeyReused where the body is another one. What `make` raises leaves no key behind.
        """
        digest = sha256(body).hexdigest()
        with self._lock:
            if (known := self._known.get((owner, key))) is not None:
                before, made = known
                if before != digest:
                    raise KeyReused(
                        "This Idempotency-Key stood for another request: choose a new one."
                    )
                return made, False
            made = make()
            self._known[owner, key] = (digest, made)
            while len(self._known) > self._remembered:
                self._known.popitem(last=False)
            return made, True
