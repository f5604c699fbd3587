"""`seedproof audit`, `recommend` and `report`: judging from the terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from audit.estimate import Costs
from audit.plan import PlannedRun
from audit.score import GOALS, Audit
from core.platforms import Platform
from core.request import Model
from core.store import Store
from core.worker import open_worker
from webapp.places import Places, places
from webapp.terminal import BadInput, interruptible, print_json, say, tell

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Database = Annotated[Path | None, typer.Option("--db", help="The database; pictures beside it.")]


LATEST = 200
"""Of the pictures made here, those whose times are looked at."""


def add_to(app: typer.Typer) -> None:
    app.command()(audit)
    app.command()(recommend)
    app.command()(report)


def audit(
    plan: Annotated[str, typer.Option(help="A plan's name, or a TOML file.")] = "quick",
    model: Annotated[str, typer.Option(help="pocket, or a folder.")] = "pocket",
    resume: Annotated[str | None, typer.Option(help="Continue the audit with this id.")] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N|FILE",
            help="How many seeds instead of the plan's, or a file of seeds (.txt, .csv, .toml).",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="A file of prompts instead of the plan's (.txt, .csv, .toml)."),
    ] = None,
    as_json: Json = False,
    database: Database = None,
) -> None:
    """Rerun identical seeds across settings; say what repeats, what drifts, and what is fast."""
    from audit.document import document
    from audit.estimate import estimate
    from audit.execution import run_audit
    from audit.judgement import judge
    from audit.pictures import load_picture
    from audit.plan import Plan
    from audit.plan_file import load_plan
    from audit.report import write_report
    from audit.schedule import expand
    from core.models import resolve
    from core.platforms import detect

    if resume is not None and (seeds or prompts):
        raise BadInput("An audit keeps its prompts and seeds: leave them out beside --resume.")
    count, file = _seeds(seeds)
    place = places(database)
    platform = detect()
    with Store(place.database) as store:
        if resume is None:
            chosen = resolve(model, place.shipped_model)
            todo = load_plan(
                place.plan(plan), chosen, platform, clusters=count, prompts=prompts, seeds=file
            )
        else:
            chosen, todo = store.model(resume, Model), store.plan(resume, Plan)
        planned = expand(todo, platform)
        done = store.identities(resume) if resume else frozenset()
        costs = _costs(store, resume, chosen, platform)
        tell(f"{todo.name}: {estimate(planned, costs, done)}")
        with interruptible() as stop, _bar(len(planned), len(done)) as (bar, task):
            audit_id = run_audit(
                store,
                todo,
                platform,
                chosen,
                lambda conditions: open_worker(
                    conditions, platform, pictures=store.pictures, lease_folder=place.leases
                ),
                audit_id=resume,
                on_progress=lambda at: bar.update(
                    task,
                    completed=at.done,
                    what=f"{at.planned.role} {at.planned.configuration.key}",
                ),
                stop=stop.is_set,
            )
        result = judge(store, audit_id)
        page = place.reports / f"{audit_id}.html"
        write_report(result, page, load_picture)
    if as_json:
        print_json(document(result))
    else:
        _show(result)
        say(f"report: {page}")
    if not result.complete:
        tell(f"not complete: seedproof audit --resume {audit_id}")
        raise typer.Exit(130)


def recommend(
    goal: Annotated[str, typer.Option(help=f"One of {', '.join(GOALS)}.")] = "same-look",
    max_memory: Annotated[float | None, typer.Option(help="GB (10⁹ bytes) at most.")] = None,
    audit_id: Annotated[str | None, typer.Option("--audit", help="An audit's id.")] = None,
    as_json: Json = False,
    database: Database = None,
) -> None:
    """A configuration for this platform, with the evidence; exits 1 where nothing qualifies."""
    from audit.document import plain
    from audit.pace import pace_changes, told
    from audit.recommendation import recommend as judge_goal
    from audit.recommendation import stale
    from core.platforms import detect

    wish = next((known for known in GOALS if known == goal), None)
    if wish is None:
        raise BadInput(f"Unknown goal {goal!r}: choose one of {', '.join(GOALS)}.")
    place = places(database)
    result = _result(place, audit_id)
    with Store(place.database) as store:
        changes = pace_changes(result, store.generations(LATEST))
    platform = detect()
    answer = judge_goal(
        result.scores,
        wish,
        baseline=result.baseline,
        max_memory_bytes=None if max_memory is None else int(max_memory * 1e9),
        platform_fingerprint=result.platform.fingerprint,
        audit_id=result.audit_id,
    )
    old = stale(answer, platform)
    if as_json:
        moved = [{**plain(c), "ratio": c.ratio, "sentence": c.sentence} for c in changes]
        print_json(plain({"recommendation": answer, "stale": old, "moved": moved}))
    else:
        say(answer.reason)
        for sentence in answer.evidence:
            say(f"  {sentence}")
        if answer.ties:
            say(f"  cannot be told apart in time from: {'; '.join(answer.ties)}")
        for loser in answer.losers:
            say(f"  not {loser.key}: {loser.reason}")
        if old:
            say(f"  stale: {old}")
        for sentence in told(changes, answer.key, result.baseline):
            say(f"  stale: {sentence}")
    if answer.configuration is None:
        raise typer.Exit(1)


def report(
    audit_id: Annotated[str, typer.Argument(metavar="AUDIT", help="An audit's id.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    database: Database = None,
) -> None:
    """One HTML file that a person reads: pictures, verdicts, evidence."""
    from audit.pictures import load_picture
    from audit.report import write_report

    if not out.parent.is_dir():
        raise BadInput(f"There is no folder {str(out.parent)!r}: make it first, or choose another.")
    write_report(_result(places(database), audit_id), out, load_picture)
    say(str(out))


def _result(place: Places, audit_id: str | None) -> Audit:
    """The named audit, judged anew; without a name the latest complete one."""
    from audit.judgement import judge

    with Store(place.database) as store:
        if audit_id is None:
            complete = [entry.id for entry in store.audits() if entry.finished_at]
            if not complete:
                raise BadInput("No audit is complete yet: run seedproof audit first.")
            audit_id = complete[0]
        return judge(store, audit_id)


def _seeds(text: str | None) -> tuple[int | None, Path | None]:
    """A number of seeds, or a file of them."""
    if text is None or not text.isdecimal():
        return None, None if text is None else Path(text)
    if not int(text):
        raise BadInput("--seeds takes a number from 1, or a file of seeds.")
    return int(text), None


def _costs(store: Store, resume: str | None, model: Model, platform: Platform) -> Costs | None:
    """What pictures of this model took here, in this audit or lately; None where none was made."""
    from audit.estimate import measured

    known = store.runs(resume).values() if resume else store.generations(20)
    return measured(
        run
        for run in known
        if run.environment.fingerprint == platform.fingerprint
        and run.job.requests[0].model.digest == model.digest
    )


def _what(run: PlannedRun) -> str:
    return f"{run.role} {run.configuration.key}"


def _show(result: Audit) -> None:
    from audit.table import tables

    console = Console(width=None if sys.stdout.isatty() else 110)
    for table in tables(result):
        console.print(table)
        console.print()


@contextmanager
def _bar(total: int, done: int) -> Iterator[tuple[Progress, TaskID]]:
    """Progress on standard error: what ran last, how many of how many, time left."""
    columns = (
        BarColumn(20),
        TextColumn("{task.completed} of {task.total}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar, bar.add_task("", total=total, completed=done, what="starting")
