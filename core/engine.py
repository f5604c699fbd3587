"""The seam: an engine turns a job into a run."""

from typing import Protocol

from core.request import Job, Watch
from core.run import Run


class Engine(Protocol):
    """Anything that can make pictures: this process, a worker process, a test's fake.

    `run` never raises for a job that cannot be done: the run's outcome says `failed`, its reason
    says why in one sentence. No tensors cross this seam.
    """

    def run(self, job: Job, watch: Watch) -> Run: ...
