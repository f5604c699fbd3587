"""What an audit will do, as data: a plan, and the runs it expands to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from audit.score import Axis
from core.optimization import Configuration
from core.request import Job, Request

Role = Literal[
    "determinism",
    "batch-size",
    "batch-position",
    "threads",
    "instruction-set",
    "after-other-work",
    "other-work",
    "timing",
    "ulp-nudge",
    "other-seed",
]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The experiment. A cluster is one request (prompt × seed) with processes of its own."""

    name: str
    baseline: Configuration
    candidates: tuple[Configuration, ...]
    """Without the baseline; the ones this platform cannot do are skipped with their reason."""
    requests: tuple[Request, ...]
    """One per cluster."""
    calls: int = 2
    """Calls in a cluster's first process; its second process makes one."""
    timing_blocks: int = 4
    axes: Mapping[Axis, tuple[str, ...]] = field(default_factory=dict)
    """Extra axis → keys of the configurations it is tried on. Same-process and fresh-process are
    always tried on every configuration."""
    order_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a plan, and its place in the experiment.

    `identity` is a SHA-256 over plan name, role, placebo, configuration, conditions, requests,
    cluster, process and repeat: equal on resume, different for a placebo.

    How roles are compared (i is the cluster):

    - `determinism`: process `a` makes repeats 0, 1, …; process `b` makes repeat 0.
      same-process i: a/0 against a/1, …; fresh-process i: a/0 against b/0.
    - `batch-size`: a new process; the request first of 2, then (another process) first of 4;
      its picture 0 against a/0.
    - `batch-position`: the request last of 4, its last picture against the first of 4.
    - `threads`: the other number of threads, against a/0.
    - `after-other-work`: a process that first did an `other-work` run (never scored), against a/0.
    - `timing`: one live process per configuration, taking turns; block b, request i, against the
      baseline's run of the same block and request. Block 0 warms up and is not scored.
    - `ulp-nudge`, `other-seed`: controls, on the baseline's configuration, against a/0.
    """

    identity: str
    role: Role
    configuration: Configuration
    placebo: bool
    cluster: int
    process: str
    """Runs with equal labels share one worker process, in this order; a label is never reused."""
    repeat: int
    block: int | None
    job: Job
