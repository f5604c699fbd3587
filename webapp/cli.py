"""The terminal: the same words as in the browser and in the JSON."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from core.database import StoreError
from webapp import cli_accounts
from webapp.places import places
from webapp.terminal import BadInput, print_json, say
from webapp.waiting import share_cores

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Database = Annotated[Path | None, typer.Option("--db", help="The database; pictures beside it.")]


def doctor(as_json: Json = False) -> None:
    """This platform, and each optimization: available, or why not."""
    from core.platforms import detect
    from webapp.doctor import document

    platform, shipped = detect(), places(None).shipped_model
    found = document(platform, shipped)
    if as_json:
        print_json(found)
        return
    gigabytes = platform.memory_bytes / 1e9
    say(f"{platform.device_name} ({platform.device}), {gigabytes:.1f} GB, {platform.system}")
    say(
        f"{platform.threads} threads on {platform.cores} cores, "
        f"{platform.instruction_set} kernels, "
        f"{platform.dtype} by default, torch {platform.versions['torch']}"
    )
    say(f"fingerprint {platform.fingerprint}\n")
    for sentence in found["hardware"]:
        say(f"  {sentence}")
    say()
    rows = found["optimizations"]
    slots = max(len(row["slot"]) for row in rows)
    names = max(len(row["name"]) for row in rows)
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
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="Where a proxy shows it, as /seedproof.")
    ] = "",
    drain_seconds: Annotated[
        float, typer.Option(help="What jobs have to end after SIGTERM.", min=0)
    ] = 30,
    accounts: Annotated[
        Path | None, typer.Option(help="Only these accounts may come in (seedproof account add).")
    ] = None,
    trust_header: Annotated[
        str | None, typer.Option(help="The header in which a trusted proxy names the user.")
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None, typer.Option(help="Address or range of that proxy; may be repeated.")
    ] = None,
    admin: Annotated[
        list[str] | None, typer.Option(help="A user of that proxy who is an admin.")
    ] = None,
    limits: Annotated[
        Path | None, typer.Option(help="A TOML file of limits for everybody.")
    ] = None,
    database: Database = None,
) -> None:
    """The app in the browser."""
    from webapp.limits import Limits, read_limits
    from webapp.policy import Policy
    from webapp.server import serve as start

    proxies = trusted_proxy or []
    identify, login = cli_accounts.entrance(accounts, trust_header, proxies, admin or [])
    if identify is not None:
        # uvicorn puts another address in place of the peer's, on its word, where it trusts it.
        # A header that names the user is believed of the peer itself, so nothing may be put there.
        os.environ["FORWARDED_ALLOW_IPS"] = "" if trust_header else ",".join(proxies)
    policy = Policy(limits=read_limits(limits) if limits else Limits())
    start(
        places(database),
        model,
        host=host,
        port=port,
        browser=browser,
        policy=policy,
        journal=journal,
        root_path=root_path,
        drain_seconds=drain_seconds,
        identify=identify,
        login=login,
    )


def application() -> typer.Typer:
    """All commands. Built when asked for, because the options come with torch."""
    from webapp import (
        cli_audit,
        cli_deploy,
        cli_export,
        cli_generate,
        cli_grid,
        cli_verify,
    )

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
    cli_accounts.add_to(app)
    cli_deploy.add_to(app)
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
