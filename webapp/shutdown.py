"""How a server ends: asked once it finishes what it began, asked twice it does not."""

import contextlib
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from webapp.services import Services

SECONDS = 30.0
"""That work has, unless the start says otherwise."""
_LAST_LOOK = 1.0
"""Seconds after the last job in which those who wait for it can still see how it ended."""


class Shutdown:
    """Hears SIGTERM, which containers are stopped with. Made in the main thread."""

    def __init__(self) -> None:
        self._asked = False
        signal.signal(signal.SIGTERM, self._told)

    def wait(self) -> None:
        """Return once the server is asked to stop. Raises KeyboardInterrupt at Ctrl+C."""
        # A signal's handler may not wait for a lock, which an event has.
        while not self._asked:
            time.sleep(0.1)

    def _told(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


def drain(services: "Services", seconds: float, log: Callable[..., None]) -> None:
    """Take nothing new, stop audits, which can be resumed, and give jobs this long to end."""
    audits, jobs = services.audits, services.jobs

    def tell(event: str, **fields: object) -> None:
        # A log that nobody reads any more must not end the work.
        with contextlib.suppress(OSError):
            log(event, **fields, **jobs.census())

    if (running := audits.running) is not None:
        audits.stop(running, anybodys=True)
    begun = jobs.census()
    tell("draining", seconds=seconds)
    finished = jobs.drain(seconds)
    tell("drained", finished=finished)
    if any(begun.values()):
        # What is left fails with its reason.
        jobs.close()
        time.sleep(_LAST_LOOK)
