"""Where receipts are rerun: in a new process each, in the same queue as everybody's work."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from audit.execution import Worker
from core.engine import Engine
from core.request import Conditions, Job, Watch
from core.run import Run

KEPT = 60
"""Picture files: a page that is still open can show its own; the oldest go."""


@dataclass(frozen=True)
class Reruns:
    """An engine: jobs that ask for conditions go to a new process, all others to the usual one."""

    usual: Engine
    open_worker: Callable[[Conditions], Worker]

    def run(self, job: Job, watch: Watch) -> Run:
        if job.conditions == Conditions():
            return self.usual.run(job, watch)
        worker = self.open_worker(job.conditions)
        try:
            return worker.run(job, watch)
        finally:
            worker.close()


def tidy(folder: Path, kept: int = KEPT) -> None:
    """Delete the oldest files of a folder that reruns write to."""
    files = sorted(folder.glob("*.png"), key=lambda file: file.stat().st_mtime)
    for file in files[: max(0, len(files) - kept)]:
        file.unlink(missing_ok=True)
