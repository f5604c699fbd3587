"""One owner per device, between processes, so that no run disturbs another's time or memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_PATIENCE = 0.1
"""Seconds between two looks at `stop` while another process owns the device."""


@contextmanager
def lease(device: str, folder: Path, stop: Callable[[], bool] = lambda: False) -> Iterator[bool]:
    """Own the device for the length of the block; yields False where `stop` came first.

    The operating system drops the lock when its owner dies, however it dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{device.replace(':', '-')}.lock", thread_local=False)
    while True:
        try:
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            if stop():
                yield False
                return
        else:
            break
    try:
        yield True
    finally:
        lock.release()
