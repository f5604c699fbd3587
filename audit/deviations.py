"""In what an audit differs from what published figures were measured with."""

from collections.abc import Iterator, Sequence

from audit.plan import Plan, PlannedRun
from audit.published import Setup
from audit.trials import Runs, done
from audit.units import counted
from core.platforms import Platform
from core.request import Request
from core.run import Run


def deviations(
    plan: Plan, planned: Sequence[PlannedRun], runs: Runs, platform: Platform
) -> Iterator[str]:
    """A sentence each, from the plan and from what the engine recorded; none where the plan names
    no figures."""
    if plan.published is None:
        return
    theirs, batches = plan.published.setup, plan.timing_batches or ((plan.requests[0],),)
    timed = [runs[run.identity] for run in planned if run.role == "timing" and done(run, runs)]
    first = batches[0][0]
    torch = platform.versions.get("torch", "of an unknown version")
    yield f"Machine: {platform.device_name}, torch {torch}; theirs: {plan.published.machine}."
    yield f"Model: {first.model.name} ({first.model.digest[:12]}); theirs: {theirs.model}."
    yield from _changed(first, batches, theirs)
    precision = plan.baseline.get("precision")
    yield f"Precision: {precision}; attention of the baseline: {plan.baseline.get('attention')}."
    yield from _prompts(plan, first, timed)
    yield (
        "Time: seconds per picture of denoising and decoding, as a ratio to the baseline's, paired "
        "batch by batch; theirs: seconds of the whole benchmark."
    )
    if kinds := sorted({run.memory.kind for run in timed if run.memory.peak_bytes is not None}):
        yield f"Memory: {' and '.join(kinds)}; theirs: peak VRAM."


def _changed(first: Request, batches: Sequence[Sequence[Request]], theirs: Setup) -> Iterator[str]:
    """What can be compared word by word, where it differs."""
    sizes = sorted({len(batch) for batch in batches})
    pairs = (
        (
            "Size",
            f"{first.width} × {first.height} px",
            f"{theirs.width} × {theirs.height} px",
        ),
        ("Sampler", first.sampler, theirs.sampler),
        ("Steps", str(first.num_inference_steps), str(theirs.num_inference_steps)),
        ("CFG scale", f"{first.guidance_scale:g}", f"{theirs.guidance_scale:g}"),
        ("First seed", str(first.seed), str(theirs.seed)),
        (
            "Batch count × batch size",
            f"{len(batches)} × {' or '.join(map(str, sizes))}",
            f"{theirs.batch_count} × {theirs.batch_size}",
        ),
    )
    for name, ours, other in pairs:
        if ours != other:
            yield f"{name}: {ours}; theirs: {other}."


def _prompts(plan: Plan, first: Request, timed: Sequence[Run]) -> Iterator[str]:
    """Which prompts are judged and which are timed, and what the engine said about the latter."""
    judged = {(request.prompt, request.negative_prompt) for request in plan.requests}
    seeds = sorted({request.seed for request in plan.requests})
    span = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    if (first.prompt, first.negative_prompt) not in judged:
        yield (
            f"Prompts: determinism and drift are judged on {counted(len(judged), 'prompt')} of "
            f"the plan's own, {span}; the benchmark's prompt and negative prompt serve time and "
            "memory only."
        )
    ours = (run for run in timed if run.job.configuration == plan.baseline)
    for text in dict.fromkeys(map(_read, ours)):
        yield f"The timed prompts, as the engine read them ({first.prompt_syntax}): {text}"


def _read(run: Run) -> str:
    """How long the first picture's prompts were, and what was left out."""
    effective = run.effective
    sizes = [
        f"{what} of {counted(size.tokens, 'token')} in {counted(size.chunks, 'chunk')} of "
        f"{size.chunk_tokens}, {size.keys} keys for the UNet"
        for what, found in (
            ("prompt", effective.prompts[:1]),
            ("negative prompt", effective.negative_prompts[:1]),
        )
        for size in found
    ]
    return " ".join([f"{'; '.join(sizes) or 'nothing recorded'}.", *effective.notes])
