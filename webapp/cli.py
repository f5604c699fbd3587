"""The terminal: the same words as in the browser and in the JSON."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from core.database import StoreError
from webapp.places import places
from webapp.terminal import BadInput, print_json, say
from webapp.waiting import share_cores

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Database = Annotated[Path | None, typer.Option("--db", help="The database; pictures beside it.")]


def doctor(as_json: Json = False) -> None:
    """This platform, and each optimization: available, or why not."""
    from core.hardware import in_words, look
    from core.optimizations import OPTIMIZATIONS, availability
    from core.platforms import detect

    platform = detect()
    hardware = in_words(platform, look(platform))
    rows = []
    for optimization in OPTIMIZATIONS:
        why_not = availability(optimization, platform)
        rows.append(
            {
                "slot": optimization.slot,
                "name": optimization.name,
                "available": why_not is None,
                "why_not": why_not or "",
            }
        )
    if as_json:
        print_json({"platform": platform, "hardware": hardware, "optimizations": rows})
        return
    gigabytes = platform.memory_bytes / 1e9
    say(f"{platform.device_name} ({platform.device}), {gigabytes:.1f} GB, {platform.system}")
    say(
        f"{platform.threads} threads on {platform.cores} cores, "
        f"{platform.instruction_set} kernels, "
        f"{platform.dtype} by default, torch {platform.versions['torch']}"
    )
    say(f"fingerprint {platform.fingerprint}\n")
    for sentence in hardware:
        say(f"  {sentence}")
    say()
    slots = max(len(optimization.slot) for optimization in OPTIMIZATIONS)
    names = max(len(optimization.name) for optimization in OPTIMIZATIONS)
    for row in rows:
        mark = "available" if row["available"] else f"not available: {row['why_not']}"
        say(f"  {row['slot']:<{slots}}  {row['name']:<{names}}  {mark}")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 7860,
    model: Annotated[str, typer.Option(help="A model: pocket, or a folder.")] = "pocket",
    browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    journal: Annotated[
        bool, typer.Option("--journal", help="A line of JSON on standard error per job.")
    ] = False,
    database: Database = None,
) -> None:
    """The app in the browser."""
    from webapp.server import serve as start

    start(places(database), model, host=host, port=port, browser=browser, journal=journal)


def application() -> typer.Typer:
    """All commands. Built when asked for, because the options come with torch."""
    from webapp import cli_audit, cli_export, cli_generate, cli_grid, cli_verify

    app = typer.Typer(
        name="seedproof",
        help="Stable Diffusion images under chosen optimizations, and what each of them costs.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.command()(doctor)
    cli_generate.add_to(app)
    cli_grid.add_to(app)
    cli_audit.add_to(app)
    cli_verify.add_to(app)
    cli_export.add_to(app)
    app.command()(serve)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits 0, 1 (the answer is no) or 2 (bad input, one line)."""
    # Workers inherit both. The library's hints about packages we do without are not the user's.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    share_cores(os.environ)
    sys.exit(_exit_code(lambda: _invoke(arguments)))


def _invoke(arguments: Sequence[str] | None) -> int:
    command: Any = typer.main.get_command(application())
    result = command.main(
        args=list(sys.argv[1:] if arguments is None else arguments),
        prog_name="seedproof",
        standalone_mode=False,
    )
    return result if isinstance(result, int) else 0


def _exit_code(work: Callable[[], int]) -> int:
    try:
        return work()
    except (BadInput, StoreError, ValueError) as error:
        message = str(error)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        message = f"{error.format_message()} (--help lists what there is)"
    except KeyboardInterrupt:
        print("seedproof: stopped", file=sys.stderr)
        return 130
    print(f"seedproof: {' '.join(message.split())}", file=sys.stderr)
    return 2
