"""Imported first by a fork server, so that it leaves with its parent also while it still imports.

A fork server looks after its parent only once everything it was told to preload is imported, which
takes ten seconds where other programs want the cores; until then it would outlive a killed parent.
A timer interrupts the imports and looks; what the server forks later does not inherit it. A parent
that is killed before this is reached, in the server's first moments, is noticed after the imports.
"""

import os
import signal
from types import FrameType

PERIOD = 0.5
"""Seconds between two looks."""


def leave_with_parent() -> None:
    """End this process soon after the one that started it has ended. In the main thread only."""
    parent = os.getppid()

    def look(number: int, frame: FrameType | None) -> None:
        if os.getppid() != parent:
            os._exit(1)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)


leave_with_parent()
