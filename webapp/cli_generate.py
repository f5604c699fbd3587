"""`seedproof generate`: pictures from the terminal."""

import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from core.bottleneck import bottlenecks
from core.ladder import Choice
from core.lease import lease
from core.models import check, resolve
from core.optimization import Configuration
from core.picture_file import FORMATS, copy
from core.request import Following, Job, Request, StepEvent
from core.run import Run, TextSize
from core.shortage import run_stepping_down
from core.store import Store
from webapp.batch_choice import choose, room
from webapp.cli_options import with_fields, with_slots
from webapp.cli_request import asked, named, pictures, remarks_document, tell_remarks
from webapp.findings import Findings
from webapp.job_document import effects, seconds
from webapp.memory_limit import byte_count, document, over_limit, planned
from webapp.places import places
from webapp.terminal import BadInput, interruptible, print_json, say, tell
from webapp.token_counter import in_words
from webapp.usage_card import lines


def add_to(app: typer.Typer) -> None:
    app.command()(with_slots(with_fields(generate)))


def generate(
    settings: dict[str, str],
    fields: dict[str, Any],
    prompt: Annotated[
        str | None, typer.Argument(help="What the picture shows; left out, --from says it.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PICTURE", help="Take a picture's settings; what is said here wins."
        ),
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What it should not show.")] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures computed together.", min=1)] = 1,
    batch_count: Annotated[int, typer.Option(help="Batches, one after another.", min=1)] = 1,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="auto|any",
            help="Choose batches: auto where an audit found pixels unchanged, or any.",
        ),
    ] = None,
    memory_limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Choose settings for it, as 0.9GB or 900MB.")
    ] = None,
    model: Annotated[str, typer.Option(help="pocket, or a folder.")] = "pocket",
    out: Annotated[Path | None, typer.Option(help="Copy it there: .png, .jpg or .webp.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    database: Annotated[Path | None, typer.Option("--db", help="The database.")] = None,
) -> None:
    """Make pictures under chosen optimizations."""
    from core.diffusion import DiffusersEngine
    from core.optimizations import availability, chosen, configure
    from core.platforms import detect

    if batch not in (None, "auto", "any"):
        raise BadInput(f"--batch is auto or any, not {batch!r}.")
    limit = None if memory_limit is None else byte_count(memory_limit)
    place = places(database)
    said = {"prompt": prompt, "negative_prompt": negative, **fields}
    taken = asked(source, resolve(model, place.shipped_model), said)
    if source is not None:
        tell_remarks(source, taken)
    platform = detect()
    configuration = configure({**taken.settings, **settings}, platform)
    for optimization, _ in chosen(configuration):
        if why_not := availability(optimization, platform, taken.request.model.path):
            raise BadInput(f"{optimization.slot} {optimization.name} cannot run here: {why_not}.")
    requests = pictures(taken.request, batch_size * batch_count)
    check(requests[0])
    targets = _targets(out, requests)
    store = Store(place.database)
    engine = DiffusersEngine(platform, store.pictures)
    together = 1 if batch else batch_size
    choice, notes = Choice(configuration=configuration, batch_size=together), []
    memory_plan = None
    if limit is not None:
        with lease(platform.device, place.leases):
            memory_plan = planned(limit, requests[0], choice, platform, engine, store)
        tell(f"  {memory_plan.sentence}")
        choice = memory_plan.choice
        notes = [memory_plan.sentence] if memory_plan.changes else []
    batches = [
        tuple(requests[i : i + choice.batch_size])
        for i in range(0, len(requests), choice.batch_size)
    ]
    if batch and len(requests) > 1:
        split = choose(
            len(requests),
            requests[0],
            choice.configuration,
            platform,
            store,
            Findings(store),
            allowed=batch == "any",
            room=limit or room(platform),
        )
        tell(f"  {split.reason}")
        batches, notes = list(split.split(requests)), [*notes, split.reason]
    jobs = [
        Job(
            id=uuid.uuid4().hex,
            requests=one,
            configuration=choice.configuration,
            notes=tuple(notes),
        )
        for one in batches
    ]
    runs: list[Run] = []
    with interruptible() as stop:
        for number, job in enumerate(jobs, 1):
            watch = Following(step=_progress(number, len(jobs)), stop=stop.is_set)
            with lease(platform.device, place.leases, stop.is_set):
                made = run_stepping_down(engine, job, watch, platform)
            for run in made:
                store.add_generation(run)
            runs += made
            if runs[-1].outcome != "ok":
                break
    shown = [picture for run in runs for picture in run.pictures]
    for picture, target in zip(shown, targets, strict=False):
        if target and picture.path:
            copy(picture.path, target)
    if as_json:
        plan = None if memory_plan is None else document(memory_plan)
        more = {"memory_plan": plan, "taken": remarks_document(source, taken)}
        print_json({**_document(runs, targets, configuration), **more})
    else:
        _show(runs, targets)
    if limit is not None and (over := over_limit(runs, limit)):
        tell(f"  {over}")
    if runs[-1].outcome == "cancelled":
        raise KeyboardInterrupt
    if runs[-1].outcome == "failed":
        raise BadInput(runs[-1].reason)


def _targets(out: Path | None, requests: list[Request]) -> list[Path | None]:
    """Where each picture is copied: FILE itself for one, FILE-SEED for several, and the variation
    seed with it where that tells them apart."""
    if out is None:
        return [None for _ in requests]
    if out.suffix.lower() not in FORMATS:
        raise BadInput(f"--out takes a .png, .jpg or .webp file, not {out.name!r}.")
    if not out.parent.is_dir():
        raise BadInput(f"There is no folder {str(out.parent)!r}: make it first, or choose another.")
    if len(requests) == 1:
        return [out]
    return [out.with_name(f"{out.stem}-{named(request)}{out.suffix}") for request in requests]


def _progress(number: int, count: int) -> Callable[[StepEvent], None]:
    def show(event: StepEvent) -> None:
        batch = f"batch {number} of {count}, " if count > 1 else ""
        end = "\n" if event.step == event.num_inference_steps else "\r"
        text = f"  {batch}step {event.step} of {event.num_inference_steps}"
        print(text, end=end, file=sys.stderr, flush=True)

    return show


def _document(runs: list[Run], targets: list[Path | None], asked: Configuration) -> dict[str, Any]:
    pictures = [picture for run in runs for picture in run.pictures]
    first = runs[0]
    return {
        "outcome": runs[-1].outcome,
        "reason": runs[-1].reason,
        "images": [
            {
                "path": target or picture.path,
                "pixels_sha256": picture.pixels_sha256,
                "seed": picture.request.seed,
            }
            for picture, target in zip(pictures, targets, strict=False)
        ],
        "requested": asked.as_dict(),
        "used": first.job.configuration.as_dict(),
        "effective": effects(first),
        "prompts": _sizes(first),
        "unet_calls": sum(run.effective.unet_calls for run in runs),
        "notes": [note for run in runs for note in run.effective.notes],
        "seconds": seconds(runs),
        "peak_memory_bytes": max((run.memory.peak_bytes or 0 for run in runs), default=0) or None,
        "memory_kind": first.memory.kind,
        "usage": first.usage,
        "bottlenecks": bottlenecks(first),
    }


def _sizes(run: Run) -> dict[str, TextSize]:
    """Of the prompts, which all pictures of a command share; none where nothing was encoded."""
    effective = run.effective
    sizes = {"prompt": effective.prompts, "negative_prompt": effective.negative_prompts}
    return {name: found[0] for name, found in sizes.items() if found}


def _show(runs: list[Run], targets: list[Path | None]) -> None:
    pictures = [picture for run in runs for picture in run.pictures]
    for picture, target in zip(pictures, targets, strict=False):
        say(f"{target or picture.path}  seed {picture.request.seed}")
    run = runs[0]
    for what, size in _sizes(run).items():
        say(f"  {what.replace('_', ' ')}: {in_words(size)}")
    for slot in run.effective.slots:
        counts = ", ".join(f"{name} {value:g}" for name, value in slot.counts.items())
        detail = slot.reason if slot.effect != "applied" else counts
        say(f"  {slot.slot} {slot.requested}: {slot.effect}{f' ({detail})' if detail else ''}")
    for note in dict.fromkeys(note for run in runs for note in run.effective.notes):
        say(f"  note: {note}")
    each = sum(run.timings.picture for run in runs) / max(1, len(pictures))
    peak = max(run.memory.peak_bytes or 0 for run in runs)
    say(f"  {each:.2f} s per picture, peak memory {peak / 1e9:.2f} GB ({run.memory.kind})")
    for line in lines(run):
        say(f"  {line}")
