"""Plans as TOML: `data/plans/*.toml`, or anybody's own."""

from collections.abc import Iterable
from math import lcm
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from audit.plan import ControlRole, Plan
from audit.prompt_file import SHAPE, Prompt, in_shape, read_prompts, read_seeds, read_toml
from audit.prompt_file import PlanError as PlanError
from audit.score import Axis
from core.models import check
from core.optimization import Configuration
from core.optimizations import availability, chosen, configure
from core.platforms import Platform
from core.prompt_syntax import check_prompts
from core.request import Model, PromptSyntax, Request
from core.samplers import find

PROMPTS = Path(__file__).resolve().parents[1] / "data" / "prompts.toml"
"""The shipped prompts, which a plan names."""
WORKER_BYTES = 400_000_000
"""Memory of a worker process beside its weights, activations of a small picture included."""

PlanAxis = Literal["after-other-work", "batch-size", "batch-position", "threads", "instruction-set"]
"""The axes a plan can ask for. The other ones are always tried."""


class _Table(BaseModel):
    model_config = SHAPE


class _Row(_Table):
    """A configuration, and the extra axes it is tried on."""

    settings: dict[str, str] = {}
    axes: list[PlanAxis] = []


class _Request(_Table):
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)]
    guidance_scale: Annotated[float, Field(ge=0, strict=False)]
    prompt_syntax: PromptSyntax = "a1111"
    sampler: str = "Euler"
    width: Annotated[int, Field(ge=8, multiple_of=8)]
    height: Annotated[int, Field(ge=8, multiple_of=8)]


class _Clusters(_Table):
    count: Annotated[int, Field(ge=1)] | None = None
    """May be left out where prompts or seeds come from a file: as many as the longer one has."""
    prompts: list[str] = []
    prompts_file: str | None = None
    """In place of the shipped prompts; like `seeds_file`, relative to the plan's folder."""
    first_seed: Annotated[int, Field(ge=0)] = 0
    seeds_file: str | None = None
    """In place of `first_seed` and the numbers after it."""
    axis_clusters: Annotated[int, Field(ge=1)] | None = None
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
    axes: list[PlanAxis] = []
    """Extra axes that every configuration is tried on."""
    baseline: _Row = _Row()
    candidate: list[_Row] = []
    prompt: list[Prompt] = []
    """Prompts of this plan's own, beside the shipped ones."""


def load_plan(
    path: Path,
    model: Model,
    platform: Platform,
    *,
    clusters: int | None = None,
    prompts: Path | None = None,
    seeds: Path | None = None,
) -> Plan:
    """Read and check a plan, for this model on this platform.

    Settings that are not named get the platform's defaults, a candidate's settings stand on top of
    the baseline's, and a candidate that comes out equal to the baseline here (bf16 where bf16 is
    the default) is left out. `clusters` overrides the plan's number. `prompts` and `seeds` are
    files (`audit.prompt_file`) in place of the plan's own, and nothing in them is left out unless
    `clusters` says so. Raises PlanError.
    """
    file = in_shape(path, _content(path), _PlanFile)
    mistakes = list(_mistakes(file))
    pictures = _pictures(path, file, clusters, prompts, seeds, mistakes)
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
    requests = tuple(_request(file, model, prompt, seed) for prompt, seed in pictures)
    place = ""
    try:
        for (prompt, _), request in zip(pictures, requests, strict=True):
            place = f"prompt {prompt.name!r}"
            check_prompts(request)
        place = "request"
        check(requests[0])
    except ValueError as error:
        raise PlanError(f"{path}: {place}: {error}") from None
    candidates = tuple(configuration for configuration, _ in rows[1:])
    axes: dict[Axis, tuple[str, ...]] = {}
    for configuration, names in rows:
        for axis in dict.fromkeys((*file.axes, *names)):
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
        axis_clusters=file.clusters.axis_clusters,
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


def _content(path: Path) -> dict[str, Any]:
    """A plan file's keys, on top of those of the plan it is `based_on`, table by table.

    A file that is based on itself, by whatever way round, is a mistake.
    """
    content, seen = read_toml(path), [path.resolve()]
    while "based_on" in content:
        if not isinstance(name := content.pop("based_on"), str):
            raise PlanError(f"{path}: based_on should be the name of a plan file, and is {name!r}")
        below = path.parent / name
        if below.resolve() in seen:
            raise PlanError(f"{path}: based_on leads back to {below.name}")
        seen.append(below.resolve())
        under = read_toml(below)
        for key, value in content.items():
            both = isinstance(value, dict) and isinstance(under.get(key), dict)
            under[key] = {**under[key], **value} if both else value
        content = under
    return content


def _pictures(
    path: Path,
    file: _PlanFile,
    clusters: int | None,
    prompts: Path | None,
    seeds: Path | None,
    mistakes: list[str],
) -> list[tuple[Prompt, int]]:
    """A prompt and a seed per cluster, no two alike: prompts in turn, each time the next seed.

    Where both have gone round together, seeds go one further, until every prompt has had every
    seed. What cannot be is added to `mistakes`.
    """
    asked = file.clusters
    prompts_file = prompts or _beside(path, asked.prompts_file)
    seeds_file = seeds or _beside(path, asked.seeds_file)
    listed = read_seeds(seeds_file) if seeds_file else ()
    own = () if prompts else file.prompt
    named = {prompt.name: prompt for prompt in (*read_prompts(prompts_file or PROMPTS), *own)}
    names = list(named) if prompts else asked.prompts or list(named)
    for name in names:
        if name not in named:
            mistakes.append(
                f"clusters.prompts: no prompt is called {name!r}; there are {', '.join(named)}"
            )
            return []
    lengths = [len(names)] * bool(prompts_file) + [len(listed)] * bool(seeds_file)
    stated = 0 if seeds else asked.count or 0
    whole = not stated or prompts is not None
    count = clusters or (max(stated, *lengths, 0) if whole else stated)
    if not count:
        mistakes.append("clusters.count is missing")
    if listed and count > len(names) * len(listed):
        mistakes.append(
            f"clusters: {len(names)} prompts and {len(listed)} seeds make "
            f"{len(names) * len(listed)} different pictures, and {count} are asked for"
        )
        return []
    again = lcm(len(names), len(listed)) if listed else 1
    found = [
        (
            named[names[n % len(names)]],
            listed[(n + n // again) % len(listed)] if listed else asked.first_seed + n,
        )
        for n in range(count)
    ]
    alike = [(prompt.prompt, prompt.negative_prompt, seed) for prompt, seed in found]
    for n, picture in enumerate(alike):
        if picture in alike[:n]:
            mistakes.append(
                f"clusters {alike.index(picture) + 1} and {n + 1} ask for the same picture: "
                f"{picture[0]!r} with seed {picture[2]}"
            )
            break
    return found


def _beside(path: Path, name: str | None) -> Path | None:
    """A file that a plan names, from the plan's own folder."""
    return None if name is None else path.parent / Path(name).expanduser()


def _request(file: _PlanFile, model: Model, prompt: Prompt, seed: int) -> Request:
    return Request(
        prompt=prompt.prompt,
        negative_prompt=prompt.negative_prompt,
        prompt_syntax=file.request.prompt_syntax,
        model=model,
        seed=seed,
        width=file.request.width,
        height=file.request.height,
        num_inference_steps=file.request.num_inference_steps,
        guidance_scale=file.request.guidance_scale,
        sampler=find(file.request.sampler).name,
    )


def _mistakes(file: _PlanFile) -> Iterable[str]:
    """What is wrong beyond the shape of the file."""
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
