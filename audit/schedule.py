"""From a plan to its runs, in the order they are made."""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from audit.applicability import not_applicable
from audit.emulation import platform_sessions
from audit.plan import Plan, PlannedRun, Role
from audit.sessions import session_rounds, sessions
from core.instruction_sets import smaller
from core.models import native_size, size_step
from core.optimization import Configuration
from core.optimizations.resolution import first_size
from core.platforms import Platform
from core.request import Conditions, Job, ProcessKind, Request

POSITION_BATCH = 4
"""Pictures in the batches that compare the first place with the last."""
OTHER_SEED = 1_000_003
"""Added to a request's seed for its `other-seed` control; batch neighbours get +1, +2, …"""
_FIRST: tuple[str, ...] = ("prompt", "negative_prompt", "model", "seed", "width", "height")
_FIRST += ("num_inference_steps", "guidance_scale", "sampler")
"""Fields of a request that have always been part of a run's identity."""

Group = tuple[PlannedRun, ...]


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """A row of the audit: a configuration, or the baseline under its second name."""

    configuration: Configuration
    placebo: bool = False

    @property
    def name(self) -> str:
        return f"{self.configuration.key}{' (placebo)' if self.placebo else ''}"


def expand(plan: Plan, platform: Platform) -> tuple[PlannedRun, ...]:
    """Every run of the plan, in an order that the plan's `order_seed` alone decides.

    One round per cluster, and inside a round all processes of all configurations shuffled: slow
    changes of the machine then fall on every row alike, and an audit stopped half-way has equally
    many clusters everywhere. The baseline's first process comes first of all, so that there is
    something to compare with. Timing sessions stand after the first round, after the last, and
    evenly between; those of emulated platforms at the very end. Runs of one group are adjacent,
    because a process is closed after its last run.
    """
    rng = random.Random(plan.order_seed)
    exec_clusters = {subject.name: _exec_clusters(plan, rng) for subject in _subjects(plan)}
    rounds: list[list[Group]] = []
    for cluster in range(len(plan.requests)):
        groups = [
            group
            for subject in _subjects(plan)
            for group in _cluster_groups(
                plan, platform, subject, cluster, cluster in exec_clusters[subject.name]
            )
        ]
        rng.shuffle(groups)
        if cluster == 0:
            groups.sort(key=lambda group: _is_other(group, plan))
        rounds.append(groups)

    def maker(subject: _Subject, cluster: int) -> _Maker:
        return _Maker(plan=plan, subject=subject, cluster=cluster)

    timed = sessions(plan, rng, _subjects(plan), maker)
    for place, session in zip(session_rounds(plan), timed, strict=True):
        rounds[place].extend(session)
    there = [subject for subject in _subjects(plan) if not subject.placebo]
    rounds.append(list(platform_sessions(plan, platform, rng, there, maker)))
    return tuple(planned for groups in rounds for group in groups for planned in group)


def groups_of(planned: Sequence[PlannedRun]) -> dict[str, Group]:
    """The runs by group, groups in order of their first run."""
    groups: dict[str, list[PlannedRun]] = {}
    for run in planned:
        groups.setdefault(run.group, []).append(run)
    return {name: tuple(runs) for name, runs in groups.items()}


def _is_other(group: Group, plan: Plan) -> bool:
    """Whether it is not the baseline's first process."""
    first = group[0]
    ours = first.configuration == plan.baseline and not first.placebo
    return not (ours and first.process.endswith("/a"))


def _subjects(plan: Plan) -> tuple[_Subject, ...]:
    baseline, *candidates = plan.runnable
    return (
        _Subject(configuration=baseline),
        _Subject(configuration=baseline, placebo=True),
        *(_Subject(configuration=candidate) for candidate in candidates),
    )


def _exec_clusters(plan: Plan, rng: random.Random) -> set[int]:
    clusters = range(len(plan.requests))
    return set(rng.sample(clusters, min(plan.exec_clusters, len(clusters))))


def _cluster_groups(
    plan: Plan, platform: Platform, subject: _Subject, cluster: int, exec_unlike: bool
) -> Iterator[Group]:
    """One subject's processes of one cluster; `exec_unlike` has the one that is not like the other
    exec'd."""
    request = plan.requests[cluster]
    maker = _Maker(plan=plan, subject=subject, cluster=cluster)
    unlike: ProcessKind = "exec" if exec_unlike else "forked"
    if plan.cluster_sessions:
        yield (maker.run("determinism", "a", (request,), process=unlike),)
    else:
        yield tuple(
            maker.run("determinism", "a", (request,), repeat=repeat) for repeat in range(plan.calls)
        )
        yield (maker.run("determinism", "b", (request,), process=unlike),)
    if subject.placebo:
        return
    if plan.axis_clusters is None or cluster < plan.axis_clusters:
        yield from _axis_groups(plan, platform, maker)
    if subject.configuration == plan.baseline:
        yield from _controls(plan, maker, request)


def _axis_groups(plan: Plan, platform: Platform, maker: "_Maker") -> Iterator[Group]:
    """The processes of the extra axes that the plan tries on the maker's row."""
    request, key = plan.requests[maker.cluster], maker.subject.configuration.key
    inapplicable = not_applicable(platform)
    tried = {axis for axis, keys in plan.axes.items() if key in keys and axis not in inapplicable}
    by_size, by_position = "batch-size" in tried, "batch-position" in tried
    sizes = set(plan.batch_sizes if by_size else ()) | ({POSITION_BATCH} if by_position else set())
    for size in sorted(sizes):
        first = (request, *_neighbours(request, size - 1))
        yield (maker.run("batch-size", f"first of {size}", first),)
    if by_position:
        last = (*_neighbours(request, POSITION_BATCH - 1), request)
        yield (maker.run("batch-position", f"last of {POSITION_BATCH}", last),)
    if "threads" in tried:
        threads = 1 if platform.threads > 1 else 2
        yield (maker.run("threads", f"{threads} threads", (request,), threads=threads),)
    if "instruction-set" in tried:
        sets = smaller(platform.instruction_set)
        limited = sets[maker.cluster % len(sets)]
        label = f"{limited} kernels"
        yield (
            maker.run(
                "instruction-set", label, (request,), process="exec", instruction_set=limited
            ),
        )
    if "after-other-work" in tried:
        yield (
            _other_work(plan, maker),
            maker.run("after-other-work", "after other work", (request,)),
        )


def _controls(plan: Plan, maker: "_Maker", request: Request) -> Iterator[Group]:
    if "ulp-nudge" in plan.controls:
        # An element that every latent of this picture size has, whatever the VAE's factor (≤ 8).
        seed = f"{plan.order_seed} nudge {maker.cluster}"
        width, height = _initial_size(plan, request)
        nudge = random.Random(seed).randrange(4 * (width // 8) * (height // 8))
        yield (maker.run("ulp-nudge", "ulp-nudge", (request,), nudge=nudge),)
    if "other-seed" in plan.controls:
        other = replace(request, seed=request.seed + OTHER_SEED)
        yield (maker.run("other-seed", "other-seed", (other,)),)


def _initial_size(plan: Plan, request: Request) -> tuple[int, int]:
    """The size that the baseline's initial latents belong to: two passes begin with a small one."""
    size = (request.width, request.height)
    if plan.baseline.get("two-pass") == "off":
        return size
    return first_size(size, native_size(request.model), size_step(request.model)) or size


def _other_work(plan: Plan, maker: "_Maker") -> PlannedRun:
    """Another configuration, prompt, seed and batch size, so that anything left behind can act.

    Which other configuration it is goes round with the clusters.
    """
    others = [c for c in plan.runnable if c != maker.subject.configuration]
    configuration = others[maker.cluster % len(others)] if others else plan.baseline
    request = plan.requests[(maker.cluster + 1) % len(plan.requests)]
    batch = _neighbours(request, 2)
    return maker.run("other-work", "after other work", batch, configuration=configuration)


def _neighbours(request: Request, count: int) -> tuple[Request, ...]:
    return tuple(replace(request, seed=request.seed + n) for n in range(1, count + 1))


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes planned runs of one subject in one cluster."""

    plan: Plan
    subject: _Subject
    cluster: int

    def run(
        self,
        role: Role,
        label: str,
        requests: tuple[Request, ...],
        *,
        configuration: Configuration | None = None,
        process: ProcessKind = "forked",
        threads: int | None = None,
        instruction_set: str | None = None,
        nudge: int | None = None,
        repeat: int = 0,
        block: int | None = None,
        group: str | None = None,
    ) -> PlannedRun:
        configuration = configuration or self.subject.configuration
        conditions = Conditions(
            threads=threads, process=process, instruction_set=instruction_set, nudge=nudge
        )
        timed = block is not None
        place = "" if timed else f"{self.cluster}/"
        worker = f"{self.subject.name}/{place}{label}"
        identity = _identity(
            plan=self.plan.name,
            role=role,
            placebo=self.subject.placebo,
            configuration=configuration.settings,
            conditions=asdict(conditions),
            requests=[_request_facts(request) for request in requests],
            cluster=self.cluster,
            process=worker,
            repeat=repeat,
            block=block,
        )
        return PlannedRun(
            identity=identity,
            role=role,
            configuration=self.subject.configuration,
            placebo=self.subject.placebo,
            cluster=self.cluster,
            process=worker,
            group=group or (label if timed else worker),
            repeat=repeat,
            block=block,
            job=Job(
                id=identity,
                requests=requests,
                configuration=configuration,
                conditions=conditions,
                capture_steps=not block,
            ),
        )


def _request_facts(request: Request) -> Mapping[str, Any]:
    """What a request asks for, its model by digest: a path or a name does not change a picture.

    A field that came later counts where it is not its default: an older audit keeps its runs.
    """
    usual = {field.name: field.default for field in fields(request) if field.name not in _FIRST}
    facts = {name: v for name, v in asdict(request).items() if name in _FIRST or v != usual[name]}
    return {**facts, "model": request.model.digest}


def _identity(**facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
