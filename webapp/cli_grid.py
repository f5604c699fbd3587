"""`seedproof grid`: one picture varied along up to three axes, with what each cell costs."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from core.lease import lease
from core.models import resolve
from core.request import Following, StepEvent
from core.run import Run
from core.shortage import run_stepping_down
from core.store import Store
from webapp.cli_options import with_fields, with_slots
from webapp.cli_request import asked, tell_remarks
from webapp.places import places
from webapp.terminal import BadInput, interruptible, print_json, say, tell


def add_to(app: typer.Typer) -> None:
    app.command("grid")(with_slots(with_fields(make_grid)))


def make_grid(
    settings: dict[str, str],
    fields: dict[str, Any],
    prompt: Annotated[
        str | None, typer.Argument(help="What the picture shows; left out, --from says it.")
    ] = None,
    x: Annotated[str, typer.Option("--x", metavar="AXIS", help="As steps=8,20.")] = "",
    y: Annotated[str, typer.Option("--y", metavar="AXIS", help="As attention=sdp,none.")] = "",
    z: Annotated[str, typer.Option("--z", metavar="AXIS", help="As seed=1-3.")] = "",
    against: Annotated[
        str, typer.Option(metavar="WHAT", help="Drift is measured against: first, or baseline.")
    ] = "first",
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PICTURE", help="Take a picture's settings; what is said here wins."
        ),
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What it should not show.")] = None,
    model: Annotated[str, typer.Option(help="pocket, or a folder.")] = "pocket",
    out: Annotated[Path | None, typer.Option(help="The whole grid as one .png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    database: Annotated[Path | None, typer.Option("--db", help="The database.")] = None,
) -> None:
    """One picture varied along up to three axes, with drift and time of every cell."""
    from audit.grid_figures import document, figures
    from audit.pictures import load_picture
    from core.diffusion import DiffusersEngine
    from core.grid import grid
    from core.grid_axis import parsed
    from core.platforms import detect
    from webapp.grid_sheet import words, write_sheet

    _check_target(out)
    if against not in ("first", "baseline"):
        raise BadInput(f"--against is first or baseline, not {against!r}.")
    axes = tuple(parsed(text) for text in (x, y, z) if text)
    place = places(database)
    said = {"prompt": prompt, "negative_prompt": negative, **fields}
    taken = asked(source, resolve(model, place.shipped_model), said)
    if source is not None:
        tell_remarks(source, taken)
    platform = detect()
    made = grid(
        taken.request,
        {**taken.settings, **settings},
        axes,
        platform,
        against="baseline" if against == "baseline" else "first",
    )
    store = Store(place.database)
    engine = DiffusersEngine(platform, store.pictures)
    runs: dict[str, Run] = {}
    jobs = made.jobs
    with interruptible() as stop:
        for number, job in enumerate(jobs, 1):
            watch = Following(step=_progress(number, len(jobs)), stop=stop.is_set)
            with lease(platform.device, place.leases, stop.is_set):
                tries = run_stepping_down(engine, job, watch, platform)
            for run in tries:
                store.add_generation(run)
            runs[job.id] = tries[-1]
            if stop.is_set():
                break
    found = {cell.job.id: figures(cell, runs, load_picture) for cell in made.cells}
    if out is not None:
        write_sheet(made, runs, found, out)
    if as_json:
        print_json({"out": out, **document(made, runs, found)})
    else:
        for cell in made.cells:
            labels = ", ".join(f"{name} {value}" for name, value in made.labels(cell))
            drift, time = words(cell, found[cell.job.id])
            say(f"{labels:<44}  {drift:<24}  {time}")
        if out is not None:
            say(f"{out}")
    if stop.is_set():
        raise KeyboardInterrupt
    if failed := [run for run in runs.values() if run.outcome == "failed"]:
        tell(f"{len(failed)} of {len(jobs)} pictures failed; the first: {failed[0].reason}")
        raise typer.Exit(1)


def _check_target(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix.lower() != ".png":
        raise BadInput(f"--out takes a .png file, not {out.name!r}.")
    if not out.parent.is_dir():
        raise BadInput(f"There is no folder {str(out.parent)!r}: make it first, or choose another.")


def _progress(number: int, count: int) -> Any:
    def show(event: StepEvent) -> None:
        end = "\n" if event.step == event.num_inference_steps else "\r"
        text = f"  picture {number} of {count}, step {event.step} of {event.num_inference_steps}"
        print(text, end=end, file=sys.stderr, flush=True)

    return show
