"""Plans as TOML: `data/plans/*.toml`, or anybody's own."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit.plan import ControlRole, Plan
from audit.score import Axis
from core.models import check
from core.optimization import Configuration
from core.optimizations import availability, chosen, configure
from core.platforms import Platform
from core.request import Model, Request
from core.samplers import find

PROMPTS = Path(__file__).resolve().parents[1] / "data" / "prompts.toml"
"""The shipped prompts, which a plan names."""
WORKER_BYTES = 400_000_000
"""Memory of a worker process beside its weights, activations of a small picture included."""

PlanAxis = Literal["after-other-work", "batch-size", "batch-position", "threads"]
"""The axes a plan can ask for. The other ones are always tried, or not yet possible."""


class PlanError(ValueError):
    """A plan that cannot be used; one sentence per mistake, each on its own line."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_AnyTable = TypeVar("_AnyTable", bound=_Table)


class _Row(_Table):
    """A configuration, and the extra axes it is tried on."""

    settings: dict[str, str] = {}
    axes: list[PlanAxis] = []


class _Prompt(_Table):
    name: str
    prompt: str
    negative_prompt: str = ""


class _Prompts(_Table):
    prompt: list[_Prompt] = []


class _Request(_Table):
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)]
    guidance_scale: Annotated[float, Field(ge=0, strict=False)]
    sampler: str = "Euler"
    width: Annotated[int, Field(ge=8, multiple_of=8)]
    height: Annotated[int, Field(ge=8, multiple_of=8)]


class _Clusters(_Table):
    count: Annotated[int, Field(ge=1)]
    prompts: list[str] = []
    first_seed: Annotated[int, Field(ge=0)] = 0
    calls: Annotated[int, Field(ge=1)] = 2
    exec_clusters: Annotated[int, Field(ge=0)] = 1
    batch_sizes: list[Annotated[int, Field(ge=2)]] = [2, 4]
    controls: list[ControlRole] = ["ulp-nudge", "other-seed"]
    patience: Annotated[float, Field(ge=0, strict=False)] = 10.0


class _Timing(_Table):
    blocks: Annotated[int, Field(ge=0)] = 4
    sessions: Annotated[int, Field(ge=1)] | Literal["clusters"] = 1
    """`clusters`: one per cluster, see `Plan.cluster_sessions`."""


class _PlanFile(_Table):
    name: Annotated[str, Field(min_length=1)]
    summary: str = ""
    order_seed: int = 0
    request: _Request
    clusters: _Clusters
    timing: _Timing = _Timing()
    baseline: _Row = _Row()
    candidate: list[_Row] = []
    prompt: list[_Prompt] = []
    """Prompts of this plan's own, beside the shipped ones."""


def load_plan(
    path: Path,
    model: Model,
    platform: Platform,
    *,
    clusters: int | None = None,
    prompts: Path = PROMPTS,
) -> Plan:
    """Read and check a plan, for this model on this platform.

    Settings that are not named get the platform's defaults, a candidate's settings stand on top of
    the baseline's, and a candidate that comes out equal to the baseline here (bf16 where bf16 is
    the default) is left out. `clusters` overrides the plan's number. Raises PlanError.
    """
    file = _read(path, _PlanFile)
    named = {prompt.name: prompt for prompt in (*_read(prompts, _Prompts).prompt, *file.prompt)}
    mistakes = list(_mistakes(file, named))
    baseline, rows = None, list[tuple[Configuration, list[PlanAxis]]]()
    for number, row in enumerate((file.baseline, *file.candidate)):
        try:
            configuration = configure({**file.baseline.settings, **row.settings}, platform)
        except ValueError as error:
            mistakes.append(f"{f'candidate {number}' if number else 'baseline'}: {error}")
            continue
        baseline = baseline or configuration
        if number and configuration == baseline:
            continue
        if any(configuration == other for other, _ in rows):
            mistakes.append(f"candidate {number} repeats another one: {configuration.key}")
        rows.append((configuration, row.axes))
    if mistakes or baseline is None:
        raise PlanError("\n".join(f"{path}: {mistake}" for mistake in mistakes))
    requests = _requests(file, named, model, clusters or file.clusters.count)
    try:
        check(requests[0])
    except ValueError as error:
        raise PlanError(f"{path}: request: {error}") from None
    candidates = tuple(configuration for configuration, _ in rows[1:])
    axes: dict[Axis, tuple[str, ...]] = {}
    for configuration, names in rows:
        for axis in names:
            axes[axis] = (*axes.get(axis, ()), configuration.key)
    sessions = None if file.timing.sessions == "clusters" else file.timing.sessions
    return Plan(
        name=file.name,
        summary=file.summary,
        baseline=baseline,
        candidates=candidates,
        skipped={c.key: reason for c in candidates if (reason := why_not(c, platform))},
        requests=requests,
        calls=file.clusters.calls,
        exec_clusters=file.clusters.exec_clusters,
        batch_sizes=tuple(file.clusters.batch_sizes),
        controls=tuple(file.clusters.controls),
        patience=file.clusters.patience,
        timing_blocks=file.timing.blocks if sessions else max(file.timing.blocks, len(requests)),
        timing_sessions=sessions or len(requests),
        cluster_sessions=sessions is None,
        timing_workers=timing_workers(model, platform),
        axes=axes,
        order_seed=file.order_seed,
    )


def why_not(configuration: Configuration, platform: Platform) -> str | None:
    """The first reason why this platform cannot do a configuration, or None where it can."""
    reasons = (availability(option, platform) for option, _ in chosen(configuration))
    return next((reason for reason in reasons if reason), None)


def timing_workers(model: Model, platform: Platform) -> int:
    """How many workers with this model loaded fit into seven tenths of the device's memory.

    Weights count twice: a file in half precision may be loaded in float32.
    """
    weights = sum(file.stat().st_size for file in model.path.rglob("*.safetensors"))
    return max(2, int(0.7 * platform.memory_bytes) // (WORKER_BYTES + 2 * weights))


def _requests(
    file: _PlanFile, named: dict[str, _Prompt], model: Model, count: int
) -> tuple[Request, ...]:
    """One per cluster: the prompts in turn, each time with the next seed."""
    names = file.clusters.prompts or list(named)
    wanted = [named[names[n % len(names)]] for n in range(count)]
    return tuple(
        Request(
            prompt=prompt.prompt,
            negative_prompt=prompt.negative_prompt,
            model=model,
            seed=file.clusters.first_seed + n,
            width=file.request.width,
            height=file.request.height,
            num_inference_steps=file.request.num_inference_steps,
            guidance_scale=file.request.guidance_scale,
            sampler=find(file.request.sampler).name,
        )
        for n, prompt in enumerate(wanted)
    )


def _mistakes(file: _PlanFile, named: dict[str, _Prompt]) -> Iterable[str]:
    """What is wrong beyond the shape of the file."""
    for name in file.clusters.prompts:
        if name not in named:
            yield f"clusters.prompts: no prompt is called {name!r}; there are {', '.join(named)}"
    if not named:
        yield "there is no prompt: add a [[prompt]] table"
    try:
        find(file.request.sampler)
    except ValueError as error:
        yield f"request.sampler: {error}"
    sessions = 1 if file.timing.sessions == "clusters" else file.timing.sessions
    if file.timing.blocks and sessions > file.timing.blocks:
        yield (
            f"timing: {file.timing.sessions} sessions cannot share {file.timing.blocks} blocks; "
            "give at least as many blocks as sessions"
        )


def _read(path: Path, kind: type[_AnyTable]) -> _AnyTable:
    """A TOML file, in the shape it must have."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"{path}: not a readable TOML file ({error}).") from None
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        mistakes = (f"{path}: {_sentence(mistake)}" for mistake in error.errors())
        raise PlanError("\n".join(mistakes)) from None


def _sentence(mistake: Any) -> str:
    """One of pydantic's error records as a sentence, with the place as TOML spells it."""
    place = ".".join(str(part + 1 if isinstance(part, int) else part) for part in mistake["loc"])
    match mistake["type"]:
        case "missing":
            return f"{place} is missing"
        case "extra_forbidden":
            return f"{place} is not a key that a plan has"
        case _:
            message = mistake["msg"].removeprefix("Input ")
            return f"{place} {message}, and is {mistake['input']!r}"
