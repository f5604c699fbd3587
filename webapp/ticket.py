"""A job in a queue, as it stood at one moment."""

from dataclasses import dataclass
from typing import Literal

from core.request import Job, StepEvent
from core.run import Run

State = Literal["waiting", "running", "ok", "cancelled", "failed"]

CLOSED: tuple[State, ...] = ("ok", "cancelled", "failed")
"""States that never change again."""


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A job in the queue, as it stood at one moment."""

    job: Job
    owner: str
    state: State
    ahead: int = 0
    """Jobs that will be done before this one begins."""
    wait: float | None = None
    """Seconds until it begins, from the steps measured lately; None before any was."""
    step: StepEvent | None = None
    """The newest step."""
    waited: float = 0.0
    """Seconds from asking to the begin of the work, or to the end where it never began."""
    began: bool = False
    seconds: float = 0.0
    """Since the job began to run; its whole time once it ended."""
    denoising: float = 0.0
    """Seconds spent in steps so far."""
    run: Run | None = None
    reason: str = ""
    """One sentence for people where the state is `failed` or `cancelled`."""

    @property
    def closed(self) -> bool:
        return self.state in CLOSED

    @property
    def remaining(self) -> float | None:
        """Seconds of steps still to come, from the steps seen; None before the first."""
        if self.step is None:
            return None
        return self.denoising / self.step.step * (self.step.num_inference_steps - self.step.step)
