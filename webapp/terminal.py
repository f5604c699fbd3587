"""What commands share about a terminal: answers on standard output, progress on standard error."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import TypeAdapter


class BadInput(Exception):
    """What was typed cannot be done; the message is one sentence that says what to do."""


def say(text: str = "") -> None:
    """A line of the answer, on standard output."""
    print(text)


def tell(text: str) -> None:
    """A line about the work, on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """One JSON document on standard output; frozen records become objects, paths strings."""
    print(TypeAdapter(Any).dump_json(document, indent=2).decode())


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Ctrl-C stops after the step under way instead of tearing the process apart."""
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
