"""What an audit says about one configuration, and about all of them together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from audit.prompt_followed import PromptFollowed
from audit.published import Published
from core.optimization import Configuration
from core.platforms import Platform
from core.run import Effect, Effective
from core.workload import Workload

Axis = Literal[
    "same-process",
    "after-other-work",
    "fresh-process",
    "batch-size",
    "batch-position",
    "threads",
    "instruction-set",
]
Determinism = Literal["held", "broken", "unverified", "not-applicable"]
DriftVerdict = Literal[
    "bit-exact",
    "rounding",
    "perceptually-identical",
    "fine-detail",
    "visibly-changed",
    "different",
]
PlatformOrigin = Literal["this machine as it is", "emulated on this machine"]
Goal = Literal["exact", "same-look", "fastest"]

AXES: tuple[Axis, ...] = (
    "same-process",
    "after-other-work",
    "fresh-process",
    "batch-size",
    "batch-position",
    "threads",
    "instruction-set",
)
DRIFT_VERDICTS: tuple[DriftVerdict, ...] = (
    "bit-exact",
    "rounding",
    "perceptually-identical",
    "fine-detail",
    "visibly-changed",
    "different",
)
"""From the closest to the farthest."""
GOALS: tuple[Goal, ...] = ("exact", "same-look", "fastest")


@dataclass(frozen=True, kw_only=True)
class Witness:
    """Two runs that should have agreed and did not."""

    run_a: str
    run_b: str
    prompt: str
    seed: int
    picture_a: Path | None
    picture_b: Path | None
    first_differing_step: int | None
    """Counts from 1; 0 where the noise differs already; None where step digests were not captured
    or all agree and only decoding differs (`difference` says which)."""
    difference: str
    """One sentence: how the two conditions differed and how far apart the results are."""


@dataclass(frozen=True, kw_only=True)
class AxisVerdict:
    """One axis of repeatability. `trials` are independent clusters, never calls."""

    verdict: Determinism
    trials: int = 0
    failures: int = 0
    p_upper95: float | None = None
    """One-sided 95 % upper bound of the failure rate (Clopper-Pearson)."""
    witness: Witness | None = None
    reason: str = ""
    """Why it is unverified, not applicable, or held only because the configuration pins it."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a picture must satisfy to earn a word: limits on metrics of `audit.metrics`, by name."""

    verdict: DriftVerdict
    meaning: str
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)

    def passes(self, measured: Mapping[str, float]) -> bool:
        return all(measured[name] >= limit for name, limit in self.at_least.items()) and all(
            measured[name] <= limit for name, limit in self.at_most.items()
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One candidate picture against the baseline's picture of the same request."""

    prompt: str
    seed: int
    baseline_picture: Path | None
    candidate_picture: Path | None
    verdict: DriftVerdict
    ssim: float
    ssim_worst_tile: float
    delta_e_mean: float
    delta_e_worst_tile: float
    phash: int
    max_abs: int
    latent_relative_l2: float | None = None
    more: Mapping[str, float] = field(default_factory=dict)
    """Metrics of `audit.metrics.METRICS` that have no field here, by name."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far from the baseline, over all compared pictures; the worst picture governs."""

    verdict: DriftVerdict
    not_attributable: bool
    """No larger than what moving one latent element by one ULP does here."""
    ssim_mean: float
    ssim_min: float
    ssim_worst_tile: float
    delta_e_mean: float
    delta_e_worst_tile: float
    phash_max: int
    max_abs: int
    pictures: tuple[Comparison, ...]
    more: Mapping[str, float] = field(default_factory=dict)
    """The worst value of each metric that has no field here, by name."""


@dataclass(frozen=True, kw_only=True)
class TimeRatio:
    """Candidate ÷ baseline, seconds per picture, paired within blocks."""

    median: float
    ci95: tuple[float, float]
    pairs: int


@dataclass(frozen=True, kw_only=True)
class MemoryRange:
    """The peaks of a row's timed runs, in bytes."""

    smallest: int
    largest: int
    runs: int


@dataclass(frozen=True, kw_only=True)
class TimedRuns:
    """A row's timed runs of one workload, in seconds per picture: denoising and decoding."""

    workload: Workload
    fastest: float
    median: float
    slowest: float
    runs: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """One configuration's row. A field is None where nothing was measured."""

    configuration: Configuration
    key: str
    available: bool = True
    why_not: str = ""
    placebo: bool = False
    """The baseline under a second name: what this row shows is noise."""
    effect: Effect | None = None
    effective: Effective | None = None
    inherited_from: str | None = None
    determinism: Mapping[Axis, AxisVerdict] = field(default_factory=dict)
    drift: Drift | None = None
    prompt_followed: PromptFollowed | None = None
    prompt_unjudged: str = ""
    """Why `prompt_followed` is None."""
    time_ratio: TimeRatio | None = None
    seconds_median: float | None = None
    timed: tuple[TimedRuns, ...] = ()
    """The runs behind it, by workload; empty in results that are older than this field."""
    peak_memory_bytes: int | None = None
    memory_kind: str = ""
    memory_range: MemoryRange | None = None
    runs: int = 0
    failures: tuple[str, ...] = ()
    """Reasons of runs that failed, each once."""
    timed_other_pictures: int = 0
    """Timed pictures whose bits are not those audited for the same configuration and request."""
    notes: tuple[str, ...] = ()
    """What a reader must know about this row: rejected trials, runs that disagree on the effect."""


@dataclass(frozen=True, kw_only=True)
class Loser:
    """A configuration that was not recommended, and the one sentence why."""

    key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The answer for one goal. `configuration` is None where nothing qualifies."""

    goal: Goal
    configuration: Configuration | None
    key: str | None
    reason: str
    evidence: tuple[str, ...] = ()
    """Sentences with figures and counts, each readable on its own."""
    ties: tuple[str, ...] = ()
    """Keys whose time cannot be told apart from the winner's by these measurements."""
    losers: tuple[Loser, ...] = ()
    platform_fingerprint: str = ""
    audit_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Control:
    """One noise floor: the drift that a change which should not matter (or must) makes."""

    name: str
    what: str
    drift: Drift | None
    time_ratio: TimeRatio | None = None


@dataclass(frozen=True, kw_only=True)
class PlatformFigures:
    """One configuration on one platform, against the same platform's baseline."""

    key: str
    effect: Effect | None = None
    pictures: int = 0
    """Requests whose picture was made there more than once."""
    repeated: int = 0
    """Of these, those that came out with equal bits every time."""
    time_ratio: TimeRatio | None = None
    seconds_median: float | None = None
    reason: str = ""
    """Why something is missing."""


@dataclass(frozen=True, kw_only=True)
class PlatformColumn:
    """A platform whose pictures were made here."""

    name: str
    origin: PlatformOrigin
    threads: int
    instruction_set: str
    figures: tuple[PlatformFigures, ...]


@dataclass(frozen=True, kw_only=True)
class PlatformPair:
    """One configuration's pictures on two platforms, compared request by request."""

    first: str
    second: str
    key: str
    equal: int
    """Of `drift.pictures`, those that are bit-exact."""
    equal_latents: int
    """Of these, those whose final latents are too: eight bits a channel can hide a difference."""
    drift: Drift | None
    """The second platform's pictures against the first's; None where there is no pair."""
    reason: str = ""
    """Why a pair of pictures was not compared."""


@dataclass(frozen=True, kw_only=True)
class CrossPlatform:
    """What changes between platforms: this machine, and others that it emulates."""

    platforms: tuple[PlatformColumn, ...]
    """This machine first."""
    pairs: tuple[PlatformPair, ...]
    not_emulated: Mapping[str, str]
    """Name → why this machine cannot emulate it."""
    published: tuple[Published, ...]
    """Other machines, by figures of somebody else; their determinism was not measured."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Everything an audit found; `audit --json` is this record."""

    audit_id: str
    plan: str
    started_at: str
    finished_at: str | None
    complete: bool
    """False while runs of the plan are missing; scores then rest on what is there."""
    runs_done: int
    runs_planned: int
    seconds: float
    """Time spent in runs and process starts, over all sittings."""
    platform: Platform
    model_name: str
    model_digest: str
    num_inference_steps: int
    width: int
    height: int
    baseline: str
    scores: tuple[Score, ...]
    controls: tuple[Control, ...]
    recommendations: Mapping[Goal, Recommendation]
    published: Published | None = None
    """Somebody else's figures, where the plan asks to be put beside some."""
    deviations: tuple[str, ...] = ()
    """In what this audit differs from what those figures were measured with, a sentence each."""
    cross_platform: CrossPlatform | None = None
    """Where the plan names platforms to emulate."""
    notes: tuple[str, ...] = ()
    """What a reader must know to read the numbers: plan limits, stopped runs, noisy timings."""
    gates: tuple[Gate, ...] = ()
    """What the words for drift were given by; empty in results that are older than calibrations:
    the starting values then."""
