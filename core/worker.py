"""An engine in a process of its own: forked after imports, or fresh; dies with its parent.

Nothing here imports torch: `core.worker_process` does, once it is the process it has to be.
"""

import contextlib
import multiprocessing
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.lease import lease
from core.request import Conditions, Job, Watch
from core.run import Run, unknown_environment
from core.worker_process import PRELOADED, Setup, serve

if TYPE_CHECKING:
    from core.platforms import Platform

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
    - `most_growth`: bytes by which a process may grow since its first run, its weights aside; then
      a new one takes its place between two jobs. Libraries keep what they compile for each new
      shape and setting, and free nothing of it. None keeps the process.
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
        most_growth: int | None = None,
    ) -> None:
        if instruction_set is not None and process != "exec":
            raise ValueError("Only an exec'd process can be limited to an instruction set.")
        self._setup = Setup(
            device=device,
            pictures=pictures,
            threads=threads,
            instruction_set=instruction_set,
            usual_instruction_set=usual_instruction_set,
        )
        self._kind = process
        self._lease_folder = lease_folder
        self._replace_dead = replace_dead
        self._most_growth = most_growth
        self._held: list[int] = []
        self.renewals = 0
        """How often a process that grew gave its place to a new one."""
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
                run = self._run(job, watch)
            if self._grew():
                self._renew()
            return run

    def wait_until_ready(self) -> None:
        """Return when the process has imported what it needs, or has died trying."""
        with self._one_at_a_time:
            if self._environment.process_id == "":
                self._wait_until_ready(None)

    def unload(self) -> None:
        """Give back all its memory: a new process in its place, once no run goes on.

        Only a process that ends gives back everything that it loaded.
        """
        with self._one_at_a_time:
            self.close()
            self._start()
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

    def _grew(self) -> bool:
        return (
            self._most_growth is not None
            and self.alive
            and bool(self._held)
            and self._held[-1] - self._held[0] > self._most_growth
        )

    def _renew(self) -> None:
        # It holds nothing that is needed: to ask it to leave would make somebody wait.
        self._process.kill()
        self._process.join()
        self._connection.close()
        self._start()
        self.renewals += 1

    def _start(self) -> None:
        # Windows cannot fork: there, every process is exec'd, and says so.
        can_fork = "forkserver" in multiprocessing.get_all_start_methods()
        if self._kind == "forked" and can_fork:
            context: Any = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(_PRELOAD)
        else:
            context = multiprocessing.get_context("spawn")
        self._environment = unknown_environment(self._kind)
        self._held = []
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, self._setup), name="seedproof-worker", daemon=True
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
                    run: Run
                    run, held = value
                    self._held.append(held)
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
