"""How often somebody may try a password: counted by address and by name, in memory."""

import ipaddress
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW = 900.0
"""Seconds in which tries are counted."""
PER_ADDRESS, PER_NAME = 10, 20
"""A name's number is the higher one: who only wants to lock somebody out needs two addresses."""
_REMEMBERED = 20_000


class Attempts:
    """Tries of the last quarter of an hour. A try counts from its begin, so that many at once
    cannot pass; one that succeeds is taken back, and no other: an account of one's own must not
    buy tries at somebody else's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def begin(self, address: str, name: str) -> float:
        """Seconds to wait before another try may be made; at 0 this one is counted and may."""
        now = self._clock()
        limits = {f"address {_block(address)}": PER_ADDRESS, f"name {name}": PER_NAME}
        with self._lock:
            for key, most in limits.items():
                tries = self._tries.get(key, deque())
                while tries and tries[0] <= now - WINDOW:
                    tries.popleft()
                if len(tries) >= most:
                    return tries[0] + WINDOW - now
            for key in limits:
                self._tries.setdefault(key, deque()).append(now)
                self._tries.move_to_end(key)
            while len(self._tries) > _REMEMBERED:
                self._tries.popitem(last=False)
        return 0.0

    def succeeded(self, address: str, name: str) -> None:
        with self._lock:
            for key in (f"address {_block(address)}", f"name {name}"):
                if tries := self._tries.get(key):
                    tries.pop()


def _block(address: str) -> str:
    """One subscriber's: an IPv6 address's first half, whose other half everybody can choose."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and not found.ipv4_mapped:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)
