"""Plans as TOML: `data/plans/*.toml`, or anybody's own."""

from collections.abc import Mapping
from math import lcm
from pathlib import Path
from typing import Any

from audit.emulation import emulations
from audit.plan import Plan
from audit.plan_shape import PlanAxis, PlanFile, TimedBatches, mistakes_in
from audit.prompt_file import PlanError as PlanError
from audit.prompt_file import Prompt, in_shape, read_prompts, read_seeds, read_toml
from audit.published import read_platforms, read_published
from audit.score import Axis
from core.models import check, native_size
from core.optimization import Configuration
from core.optimizations import availability, chosen, configure
from core.platforms import Platform
from core.prompt_syntax import check_prompts
from core.request import Model, Request
from core.samplers import find

PROMPTS = Path(__file__).resolve().parents[1] / "data" / "prompts.toml"
"""The shipped prompts, which a plan names."""
WORKER_BYTES = 400_000_000
"""Memory of a worker process beside its weights, activations of a small picture included."""


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
    file = in_shape(path, _content(path), PlanFile)
    mistakes = list(mistakes_in(file))
    named = _named(path, file, prompts)
    pictures = _pictures(path, file, named, clusters, prompts, seeds, mistakes)
    batches = file.timing.batches
    if batches and batches.prompt not in named:
        mistakes.append(
            f"timing.batches.prompt: no prompt is called {batches.prompt!r}; there are "
            f"{', '.join(named)}"
        )
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
    timed = _batches(file, model, named[batches.prompt], batches) if batches else ()
    by_name = [(prompt.name, asked) for (prompt, _), asked in zip(pictures, requests, strict=True)]
    by_name += [(batches.prompt, batch[0]) for batch in timed if batches]
    place = ""
    try:
        for name, request in by_name:
            place = f"prompt {name!r}"
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
    asked = ((wanted.threads, wanted.instruction_set) for wanted in file.platform)
    emulated, not_emulated = emulations(asked, platform)
    elsewhere = _beside(path, file.published_platforms)
    sessions = None if file.timing.sessions == "clusters" else file.timing.sessions
    return Plan(
        name=file.name,
        summary=file.summary,
        baseline=baseline,
        candidates=candidates,
        skipped={c.key: reason for c in candidates if (reason := why_not(c, platform, model))},
        requests=requests,
        calls=file.clusters.calls,
        exec_clusters=file.clusters.exec_clusters,
        batch_sizes=tuple(file.clusters.batch_sizes),
        controls=tuple(file.clusters.controls),
        patience=file.clusters.patience,
        timing_blocks=file.timing.blocks if sessions else max(file.timing.blocks, len(requests)),
        timing_sessions=sessions or len(requests),
        cluster_sessions=sessions is None,
        timing_batches=timed,
        timing_workers=timing_workers(model, platform),
        axes=axes,
        axis_clusters=file.clusters.axis_clusters,
        order_seed=file.order_seed,
        published=read_published(path.parent / file.published) if file.published else None,
        emulated=emulated,
        not_emulated=not_emulated,
        published_platforms=read_platforms(elsewhere) if elsewhere else (),
    )


def why_not(configuration: Configuration, platform: Platform, model: Model) -> str | None:
    """The first reason why this platform cannot do a configuration with this model, or None where
    it can."""
    reasons = (availability(option, platform, model.path) for option, _ in chosen(configuration))
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


def _named(path: Path, file: PlanFile, prompts: Path | None) -> Mapping[str, Prompt]:
    """Every prompt that a plan can name: those of a file, and its own.

    Of two with one name the plan's own counts, but where `prompts` are asked for, theirs.
    """
    if prompts:
        found = (*file.prompt, *read_prompts(prompts))
    else:
        found = (*read_prompts(_beside(path, file.clusters.prompts_file) or PROMPTS), *file.prompt)
    return {prompt.name: prompt for prompt in found}


def _pictures(
    path: Path,
    file: PlanFile,
    named: Mapping[str, Prompt],
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
    theirs = [prompt.name for prompt in read_prompts(prompts)] if prompts else []
    names = theirs or asked.prompts or list(named)
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


def _batches(
    file: PlanFile, model: Model, prompt: Prompt, asked: TimedBatches
) -> tuple[tuple[Request, ...], ...]:
    """Seeds go on from batch to batch, as AUTOMATIC1111 counts them."""
    return tuple(
        tuple(
            _request(file, model, prompt, asked.first_seed + batch * asked.size + place)
            for place in range(asked.size)
        )
        for batch in range(asked.count)
    )


def _request(file: PlanFile, model: Model, prompt: Prompt, seed: int) -> Request:
    side = native_size(model) if file.request.native_size else 0
    return Request(
        prompt=prompt.prompt,
        negative_prompt=prompt.negative_prompt,
        prompt_syntax=file.request.prompt_syntax,
        model=model,
        seed=seed,
        width=file.request.width or side,
        height=file.request.height or side,
        num_inference_steps=file.request.num_inference_steps,
        guidance_scale=file.request.guidance_scale,
        sampler=find(file.request.sampler).name,
    )
