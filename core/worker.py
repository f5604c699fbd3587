"""An engine in a process of its own: forked after imports, or fresh; dies with its parent.

Nothing here imports torch before the process is what it has to be, so that a forked worker has
its imports from the fork server and an exec'd one does them itself.
"""

import contextlib
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
from typing import TYPE_CHECKING, Any, Literal

from core.lease import lease
from core.request import Conditions, Job, StepEvent, Watch
from core.run import Environment, Run

if TYPE_CHECKING:
    from core.platforms import Platform

PRELOADED = "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion"
"""Where this is already imported when a worker begins, the worker was forked after imports."""

_PRELOAD = [
    "core.orphan",
    "torch",
    PRELOADED,
    "transformers.models.clip.modeling_clip",
    "core.diffusion",
]
_POLL = 0.02
"""Seconds between two looks at `cancelled` while a job runs."""
_FAREWELL = 5.0
"""Seconds a worker has to leave by itself."""


@dataclass(frozen=True, kw_only=True)
class _Setup:
    """What a worker process is told at its start."""

    device: str | None
    pictures: Path
    threads: int | None
    instruction_set: str | None
    usual_instruction_set: str | None


class WorkerEngine:
    """Runs jobs in one other process. Making it starts the process; the first run waits for it.

    - `threads`: threads inside one operator, set before any arithmetic; None keeps the default.
    - `instruction_set`: what its CPU kernels are limited to; such a process has to be exec'd,
      because the libraries choose once. It limits itself, in its own environment, so that
      processes that start beside it are none the wiser. None keeps what the machine has.
    - `usual_instruction_set`: what the platform has when nothing is limited; a limited process
      cannot find out, and is on the same platform all the same.
    - `lease_folder`: where the device's lock lies; every run owns the device while it lasts.
    - `replace_dead`: start a new process where the last one died, for a server that must go on.
      An audit leaves it off, because there a process is part of the experiment.
    """

    def __init__(
        self,
        *,
        pictures: Path,
        lease_folder: Path,
        device: str | None = None,
        process: Literal["forked", "exec"] = "forked",
        threads: int | None = None,
        instruction_set: str | None = None,
        usual_instruction_set: str | None = None,
        replace_dead: bool = False,
    ) -> None:
        if instruction_set is not None and process != "exec":
            raise ValueError("Only an exec'd process can be limited to an instruction set.")
        self._setup = _Setup(
            device=device,
            pictures=pictures,
            threads=threads,
            instruction_set=instruction_set,
            usual_instruction_set=usual_instruction_set,
        )
        self._kind = process
        self._lease_folder = lease_folder
        self._replace_dead = replace_dead
        self._one_at_a_time = threading.Lock()
        self._environment = unknown_environment(process)
        self._start()

    @property
    def alive(self) -> bool:
        return bool(self._process.is_alive())

    @property
    def pid(self) -> int | None:
        pid: int | None = self._process.pid
        return pid

    def run(self, job: Job, watch: Watch) -> Run:
        with self._one_at_a_time:
            if not self.alive and self._replace_dead:
                self._connection.close()
                self._start()
            if self._environment.process_id == "" and (dead := self._wait_until_ready(job)):
                return dead
            with lease(self._environment.device, self._lease_folder, watch.cancelled) as owned:
                if not owned:
                    return self._ended(job, "cancelled", "Cancelled while waiting for the device.")
                return self._run(job, watch)

    def wait_until_ready(self) -> None:
        """Return when the process has imported what it needs, or has died trying."""
        with self._one_at_a_time:
            if self._environment.process_id == "":
                self._wait_until_ready(None)

    def close(self) -> None:
        """Ask the process to leave, and end it where it does not."""
        with contextlib.suppress(OSError):
            self._connection.send(("close", None))
        self._process.join(_FAREWELL)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()

    def _start(self) -> None:
        if self._kind == "forked":
            context: Any = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(_PRELOAD)
        else:
            context = multiprocessing.get_context("spawn")
        self._environment = unknown_environment(self._kind)
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._setup), name="seedproof-worker", daemon=True
        )
        self._process.start()
        theirs.close()

    def _wait_until_ready(self, job: Job | None) -> Run | None:
        try:
            kind, value = self._connection.recv()
        except (EOFError, OSError):
            return self._died(job) if job else None
        if kind == "failed":
            return self._ended(job, "failed", value) if job else None
        self._environment = value
        return None

    def _run(self, job: Job, watch: Watch) -> Run:
        try:
            self._connection.send(("run", job))
            told = False
            while True:
                if not told and watch.cancelled():
                    self._connection.send(("cancel", job.id))
                    told = True
                if not self._connection.poll(_POLL):
                    continue
                kind, value = self._connection.recv()
                if kind == "step":
                    watch.on_step(value)
                else:
                    run: Run = value
                    return run
        except (EOFError, OSError):
            return self._died(job)

    def _died(self, job: Job) -> Run:
        self._process.join(_FAREWELL)
        code = self._process.exitcode
        how = (
            f"by signal {signal.Signals(-code).name}"
            if code is not None and code < 0
            else f"with exit code {code}"
        )
        return self._ended(job, "failed", f"The worker process ended {how} during the run.")

    def _ended(self, job: Job, outcome: Literal["cancelled", "failed"], reason: str) -> Run:
        return Run(job=job, outcome=outcome, environment=self._environment, reason=reason)


def open_worker(
    conditions: Conditions, platform: "Platform", *, pictures: Path, lease_folder: Path
) -> WorkerEngine:
    """Start a process as the conditions say, without waiting for it."""
    return WorkerEngine(
        pictures=pictures,
        lease_folder=lease_folder,
        device=platform.device,
        process="exec" if conditions.process == "exec" else "forked",
        threads=conditions.threads,
        instruction_set=conditions.instruction_set,
        usual_instruction_set=platform.instruction_set,
    )


def unknown_environment(process: Literal["forked", "exec"]) -> Environment:
    """Of a process that has not said anything about itself."""
    return Environment(
        fingerprint="",
        device="",
        threads=0,
        instruction_set="",
        process=process,
        process_id="",
        calls_before=0,
        versions={},
        started_at="",
    )


class _Messenger:
    """A worker's `Watch`: sends steps to the parent, and hears from it when to stop."""

    def __init__(self, send: Callable[[tuple[str, Any]], None]) -> None:
        self._send = send
        self.stop = threading.Event()

    def on_step(self, event: StepEvent) -> None:
        self._send(("step", event))

    def cancelled(self) -> bool:
        return self.stop.is_set()


def _serve(connection: Connection, setup: _Setup) -> None:
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
        connection.send(("done", engine.run(job, messenger)))


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


def _engine(setup: _Setup, process: Literal["forked", "exec"]) -> Any:
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
