"""The other side of `core.worker`: the process that answers its jobs.

Nothing here imports torch before the process is what it has to be, so that a forked worker has
its imports from the fork server and an exec'd one does them itself.
"""

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

from core.request import Job, StepEvent

PRELOADED = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion"
"""Where this is already imported when a worker begins, the worker was forked after imports."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a worker process is told at its start."""

    device: str | None
    pictures: Path
    threads: int | None
    instruction_set: str | None
    usual_instruction_set: str | None


class _Messenger:
    """A worker's `Watch`: sends steps to the parent, and hears from it when to stop."""

    def __init__(self, send: Callable[[tuple[str, Any]], None]) -> None:
        self._send = send
        self.stop = threading.Event()

    def on_step(self, event: StepEvent) -> None:
        self._send(("step", event))

    def cancelled(self) -> bool:
        return self.stop.is_set()


def serve(connection: Connection, setup: Setup) -> None:
    """The worker process: answers jobs until told to close, and dies with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forked = PRELOADED in sys.modules
    jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    messenger = _Messenger(connection.send)
    threading.Thread(target=_listen, args=(connection, jobs, messenger), daemon=True).start()
    try:
        engine = _engine(setup, "forked" if forked else "exec")
    except Exception as error:
        connection.send(("failed", f"The worker could not start: {error}"))
        return
    connection.send(("ready", engine.environment()))
    while (job := jobs.get()) is not None:
        connection.send(("done", (engine.run(job, messenger), engine.held_bytes())))


def _listen(
    connection: Connection, jobs: "queue.SimpleQueue[Job | None]", messenger: _Messenger
) -> None:
    """Read the parent's words in a thread; when the parent is gone, be gone at once."""
    parent = multiprocessing.parent_process()
    sentinels: list[Any] = [connection] if parent is None else [connection, parent.sentinel]
    try:
        while connection in wait(sentinels):
            word, value = connection.recv()
            if word == "run":
                messenger.stop.clear()
                jobs.put(value)
            elif word == "cancel":
                messenger.stop.set()
            else:
                jobs.put(None)
                return
    except (EOFError, OSError):
        pass
    os._exit(1)


def _engine(setup: Setup, process: Literal["forked", "exec"]) -> Any:
    from core.instruction_sets import current, limit

    if setup.instruction_set is not None:
        limit(setup.instruction_set)
        if (found := current()) != setup.instruction_set:
            raise RuntimeError(
                f"asked for {setup.instruction_set} kernels, torch chose {found} ones here."
            )

    import torch

    from core.diffusion import DiffusersEngine
    from core.platforms import detect

    default_threads = torch.get_num_threads()
    if setup.threads is not None:
        torch.set_num_threads(setup.threads)
    usual = setup.usual_instruction_set if setup.instruction_set is not None else None
    platform = detect(setup.device, threads=default_threads, instruction_set=usual)
    return DiffusersEngine(platform, setup.pictures, process)
