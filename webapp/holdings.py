"""Who holds what Gradio hands to anybody who knows its name: uploads, and streams of events."""

import threading
from collections import OrderedDict

_MOST = 50_000


class Holdings:
    """Names and their holders; what was not used for the longest time is forgotten first."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._holders: OrderedDict[str, frozenset[str]] = OrderedDict()

    def give(self, name: str, owner: str) -> None:
        """To one more: equal files that two people upload are one file."""
        with self._lock:
            self._keep(name, self._holders.get(name, frozenset()) | {owner})

    def take(self, name: str, owner: str) -> bool:
        """Become the holder, where nobody is; False where it is somebody else's."""
        with self._lock:
            holders = self._holders.get(name, frozenset({owner}))
            self._keep(name, holders)
            return owner in holders

    def has(self, name: str, owner: str) -> bool:
        with self._lock:
            return owner in self._holders.get(name, frozenset())

    def known(self, name: str) -> bool:
        """Whether anybody holds it."""
        with self._lock:
            return name in self._holders

    def _keep(self, name: str, holders: frozenset[str]) -> None:
        self._holders[name] = holders
        self._holders.move_to_end(name)
        while len(self._holders) > self._most:
            self._holders.popitem(last=False)
