"""What an audit will cost, said before it starts."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from audit.plan import PlannedRun
from audit.units import duration
from core.request import Request
from core.run import Run
from core.samplers import find

_FEWER_THREADS = 1.5
_SLOWER_KERNELS = {"DEFAULT": 2.6}
"""How many times as long a picture takes with half the threads, and with kernels that use none of
the CPU's wide registers; those for AVX2 take as long as AVX-512's (of the shipped model)."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds. The defaults are the shipped model's at 128 px on two free cores with AVX2; with
    AVX-512 a row's step takes two thirds. Elsewhere `measured` knows better."""

    row_step: float = 0.065
    """One denoising step for one row of the UNet's batch; guidance doubles the rows, Heun too."""
    picture: float = 0.1
    """The rest of a picture: encoding, decoding, saving, storing."""
    forked: float = 0.4
    """A forked worker's start and its loading of the model, beyond what overlaps with runs."""
    exec: float = 3.5
    """The same for an exec'd one, which imports everything anew."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is still to do."""

    runs: int
    processes: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.runs} runs in {self.processes} processes, about {duration(self.seconds)}"


def estimate(
    planned: Sequence[PlannedRun],
    costs: Costs | None = None,
    done: Collection[str] = (),
) -> Estimate:
    """The cost of the planned runs whose identities are not among `done`."""
    costs = costs or Costs()
    remaining = [run for run in planned if run.identity not in done]
    processes = {run.process: run.job.conditions.process for run in remaining}
    starts = sum(costs.exec if kind == "exec" else costs.forked for kind in processes.values())
    return Estimate(
        runs=len(remaining),
        processes=len(processes),
        seconds=starts + sum(_seconds(run, costs) for run in remaining),
    )


def measured(runs: Iterable[Run], costs: Costs | None = None) -> Costs | None:
    """Costs as earlier runs on this platform with this model showed them; None without any.

    Starts of processes stay as they are in `costs`: they hardly depend on the model.
    """
    steps, rests = list[float](), list[float]()
    for run in runs:
        if run.outcome == "ok" and run.timings.steps:
            rows = sum(_rows(request) for request in run.job.requests)
            steps.append(median(run.timings.steps) / rows)
            rest = run.timings.encode + run.timings.decode + run.timings.save
            rests.append(rest / len(run.job.requests))
    if not steps:
        return None
    return replace(costs or Costs(), row_step=median(steps), picture=median(rests))


def _seconds(run: PlannedRun, costs: Costs) -> float:
    conditions = run.job.conditions
    slower = _SLOWER_KERNELS.get(conditions.instruction_set or "", 1.0)
    slower *= _FEWER_THREADS if conditions.threads else 1.0
    return slower * sum(
        costs.picture + costs.row_step * request.num_inference_steps * _rows(request)
        for request in run.job.requests
    )


def _rows(request: Request) -> int:
    """Rows that the UNet computes in one denoising step."""
    return find(request.sampler).calls_per_step * (2 if request.guidance_scale > 1 else 1)
