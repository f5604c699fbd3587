"""Candidates that are hopelessly slow here are given up, so that they don't cost the audit."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median

from audit.plan import Plan, PlannedRun
from core.optimization import Configuration
from core.request import Job, StepEvent
from core.run import Run

ENOUGH_STEPS = 2
"""How many steps a run makes before its speed is judged: the first one warms up."""


@dataclass
class Pace:
    """A `Watch` that stops a run when told to, or when even its fastest step is too slow."""

    stop: Callable[[], bool]
    limit: float
    """Seconds that its fastest step may take."""
    steps: int = 0
    fastest: float = math.inf
    tired: bool = False
    """Whether it stopped the run. It stays so, also where a later step still comes in, faster."""

    def on_step(self, event: StepEvent) -> None:
        self.steps += 1
        self.fastest = min(self.fastest, event.seconds)

    def cancelled(self) -> bool:
        self.tired = self.tired or (self.steps >= ENOUGH_STEPS and self.fastest > self.limit)
        return self.tired or self.stop()


@dataclass
class Patience:
    """What an audit has learnt about speed, and which configurations it has given up.

    bfloat16 on a CPU that emulates it takes some fifty times as long as float32: two steps show
    it, and the rest of its runs would take longer than all other rows together. Runs that ask for
    another number of threads or other kernels are not judged.

    A machine that is busy with something else looks just the same, so that a row is given up only
    where two processes in a row were so slow, the baseline right after them is not, and the row
    again is.
    """

    plan: Plan
    baseline_step: float = math.inf
    """Seconds: the smallest median of one of the baseline's runs."""
    reference: Job | None = None
    """The baseline's job that `baseline_step` is from, to be run again."""
    given_up: dict[Configuration, Run] = field(default_factory=dict)
    """The failed run that stands for all of a configuration's."""

    def learn(self, entry: PlannedRun, run: Run) -> None:
        """Take a finished run into account."""
        ours = entry.role == "determinism" and entry.configuration == self.plan.baseline
        if ours and run.timings.steps:
            self.reference = self.reference or entry.job
            self.baseline_step = min(self.baseline_step, median(run.timings.steps))

    def pace(self, entry: PlannedRun, stop: Callable[[], bool]) -> Pace:
        job = entry.job
        usual = job.conditions.threads is None and job.conditions.instruction_set is None
        judged = usual and job.configuration != self.plan.baseline
        factor = self.plan.patience if judged and self.plan.patience else math.inf
        return Pace(stop=stop, limit=factor * self.baseline_step * len(job.requests))

    def slower(self, run: Run, pace: Pace, baseline: Run) -> bool:
        """Whether a run is too slow even beside the reference, run right after it."""
        if baseline.outcome != "ok" or not baseline.timings.steps:
            return False
        step = pace.fastest / len(run.job.requests)
        return step > self.plan.patience * median(baseline.timings.steps)

    def give_up(self, run: Run, pace: Pace, baseline: Run) -> Run:
        """The run that was stopped for its pace, as a failed one; its configuration is given up."""
        step, unit = pace.fastest / len(run.job.requests), median(baseline.timings.steps)
        reason = (
            f"Given up: even its fastest step took {step:.3g} s a picture, {step / unit:.0f} times "
            f"the {unit:.3g} s that the baseline took right before, and the plan waits for "
            f"{self.plan.patience:g} times."
        )
        failed = replace(run, outcome="failed", reason=reason)
        self.given_up[run.job.configuration] = failed
        return failed

    def skipped(self, entry: PlannedRun) -> Run | None:
        """The failed run to store, without making it, where its configuration is given up."""
        known = self.given_up.get(entry.job.configuration)
        return not_made(entry, known, known.reason) if known else None


def not_made(entry: PlannedRun, because_of: Run, reason: str) -> Run:
    """A failed run that no process made; it has the platform of the one it is due to."""
    environment = replace(because_of.environment, process_id="", calls_before=0)
    return Run(job=entry.job, outcome="failed", environment=environment, reason=reason)
