"""What an audit will do, as data: a plan, and the runs it expands to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from audit.emulation import EmulatedPlatform
from audit.published import Published
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
    "prompt-length",
    "platform",
]
ControlRole = Literal["ulp-nudge", "other-seed", "prompt-length"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The experiment. A cluster is one request (prompt × seed) with processes of its own."""

    name: str
    summary: str = ""
    """One sentence for who chooses between plans."""
    baseline: Configuration
    candidates: tuple[Configuration, ...]
    """Without the baseline; those in `skipped` make no runs."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Candidate's key → the one sentence why the platform the plan was loaded for cannot do it."""
    requests: tuple[Request, ...]
    """One per cluster."""
    calls: int = 2
    """Calls in a cluster's first process; its second process makes one."""
    exec_clusters: int = 1
    """In how many clusters of a configuration the second process is exec'd and not forked: forks
    share an address layout. At the first clusters of a shuffled order, another per configuration.
    """
    batch_sizes: tuple[int, ...] = (2, 4)
    """What the batch-size axis tries, each in a process of its own."""
    controls: tuple[ControlRole, ...] = ("ulp-nudge", "other-seed")
    """On the baseline: noise floors, one run per cluster, and what a long prompt costs, in the
    timing sessions."""
    timing_blocks: int = 4
    """Scored blocks, over all sessions. A block times every configuration once."""
    timing_sessions: int = 1
    """Sets of new processes that the blocks are spread over; each warms up with a block 0."""
    cluster_sessions: bool = False
    """One timing session per cluster, on its request. The session's processes are then also the
    cluster's second ones: their warm-up is the fresh call, their timed calls are the repeats, and
    process `a` makes one call. The same trials for a quarter fewer runs, and every timed pair
    comes from new processes. `timing_sessions` is the number of clusters, `calls` has no effect."""
    timing_batches: tuple[tuple[Request, ...], ...] = ()
    """What is timed in place of the clusters' requests: every block makes all of these batches, the
    warm-up the first. Their pictures are not judged. Not together with `cluster_sessions`."""
    timing_workers: int = 0
    """Most processes alive in a session, the baseline's included; 0 for no limit. With fewer than
    there are configurations, a session is held in parts and the baseline is timed in each."""
    patience: float = 10.0
    """A candidate whose fastest step takes more than this many times the baseline's is given up:
    its other runs are stored as failed, with that reason. 0 for endless patience."""
    axes: Mapping[Axis, tuple[str, ...]] = field(default_factory=dict)
    """Extra axis → keys of the configurations it is tried on. Same-process and fresh-process are
    always tried on every configuration."""
    axis_clusters: int | None = None
    """In how many clusters, from the first, the extra axes are tried; None for all. They cost
    several times as much as the rest of a cluster."""
    order_seed: int = 0
    published: Published | None = None
    """Somebody else's figures that the audit's are put beside."""
    emulated: tuple[EmulatedPlatform, ...] = ()
    """Platforms that this machine emulates, each with every configuration and every request."""
    not_emulated: Mapping[str, str] = field(default_factory=dict)
    """Name → the one sentence why the platform the plan was loaded for cannot emulate it."""
    published_platforms: tuple[Published, ...] = ()
    """Other machines' figures that are listed beside the emulated platforms."""

    @property
    def runnable(self) -> tuple[Configuration, ...]:
        """The baseline, then the candidates this platform can do."""
        kept = (c for c in self.candidates if c.key not in self.skipped)
        return (self.baseline, *kept)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a plan, and its place in the experiment.

    `identity` is a SHA-256 over plan name, role, placebo, configuration, conditions, requests,
    cluster, process, repeat and block: equal on resume, different for a placebo. It knows the
    model by digest, so weights may move between two sittings.

    How roles are compared (i is the cluster):

    - `determinism`: process `…/a` makes repeats 0, 1, …; process `…/b` makes repeat 0.
      same-process i: a/0 against a/1, …; fresh-process i: a/0 against b/0.
      A timing process that serves this cluster alone (`own_process`) counts as such a process:
      fresh-process: a/0 against its block 0; same-process: its block 0 against its later blocks.
    - `batch-size`: a new process; the request first of 2, then (another process) first of 4
      (`Plan.batch_sizes`); its picture 0 against a/0.
    - `batch-position`: the request last of 4, its last picture against picture 0 of the first of
      4, a `batch-size` run that is made for this even where `Plan.batch_sizes` has no 4.
    - `threads`: the other number of threads, against a/0.
    - `instruction-set`: an exec'd process whose CPU kernels are limited to a smaller set, against
      a/0; which of the smaller sets it is goes round with the clusters.
    - `after-other-work`: a process that first did an `other-work` run (never scored), against a/0.
    - `timing`: one live process per configuration, taking turns; block b, request i, against the
      baseline's run of the same block and request. Block 0 warms up and is not scored. Where a
      plan has batches of its own for this, i is 0 and `repeat` counts the batches of a block.
    - `prompt-length`: a process of a timing session that after each batch b of a block makes
      request 0 (repeat 2b) and the same with a longer prompt (repeat 2b + 1), against each other.
    - `platform`: an exec'd process limited to an emulated platform; for each configuration and
      cluster its first call against a/0, and against the same call on other emulated platforms.
    - `ulp-nudge`, `other-seed`: controls, on the baseline's configuration, against a/0.
    """

    identity: str
    role: Role
    configuration: Configuration
    """The row it belongs to. Only an `other-work` run's job has another configuration."""
    placebo: bool
    cluster: int
    """Index into `Plan.requests`."""
    process: str
    """Runs with equal labels share one worker process, in this order; a label is never reused."""
    group: str
    """What is only meaningful together: the runs of one process, or all of a timing session. An
    interrupted group is rerun as a whole, in new processes."""
    repeat: int
    block: int | None
    job: Job
    own_process: bool = False
    """Of a timing run: whether its process serves its cluster alone."""
