"""A job whose worker died gets one process more, and is given up where that one dies too."""

from dataclasses import dataclass, replace

from core.request import Job, Watch
from core.run import Run
from core.worker import WorkerEngine


@dataclass(frozen=True)
class SecondAttempt:
    """An engine around a worker that replaces its dead process.

    The request says everything a picture needs, so that the new process makes it from the
    beginning; the record and the receipt have a note.
    """

    worker: WorkerEngine

    def run(self, job: Job, watch: Watch) -> Run:
        first = self.worker.run(job, watch)
        if first.outcome != "failed" or self.worker.alive or watch.cancelled():
            return first
        what = first.reason[:1].lower() + first.reason[1:]
        note = f"Second attempt: in the first, {what}"
        second = self.worker.run(replace(job, notes=(*job.notes, note)), watch)
        if second.outcome == "failed" and not self.worker.alive:
            reason = (
                f"{second.reason} It was the second process that ended so: try a smaller size or "
                "other settings."
            )
            return replace(second, reason=reason, attempt=2)
        return replace(second, attempt=2)
