"""`seedproof account add`, and how `serve` knows who comes: accounts, or a proxy's header."""

import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from webapp.accounts import Accounts, add_account
from webapp.terminal import BadInput, say, tell

if TYPE_CHECKING:
    from webapp.identity import Identify, Network
    from webapp.login import Login


def add_to(app: typer.Typer) -> None:
    accounts = typer.Typer(help="Who may use a server.", no_args_is_help=True)
    accounts.command("add")(add)
    # A group of one command would otherwise be that command.
    accounts.callback()(lambda: None)
    app.add_typer(accounts, name="account")


def add(
    name: Annotated[str, typer.Argument(help="Small letters, digits and . _ @ -")],
    file: Annotated[Path, typer.Option(help="The file of accounts; made where there is none.")],
    admin: Annotated[bool, typer.Option("--admin", help="Sees the whole queue, starts audits.")] = (
        False
    ),
    replace: Annotated[
        bool, typer.Option("--replace", help="A new password, and role, for a name there is.")
    ] = False,
) -> None:
    """Add an account. The password is asked for, or read as one line from standard input."""
    add_account(file, name, _password(), admin=admin, replace=replace)
    say(f"{name} may sign in as {'an admin' if admin else 'a user'}: {file}")


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if getpass.getpass("The same again: ") != first:
        raise BadInput("The two passwords differ: nothing was changed.")
    return first


def entrance(
    accounts: Path | None, header: str | None, trusted: Sequence[str], admins: Sequence[str]
) -> "tuple[Identify | None, Login | None]":
    """Who may come in, by the options of `serve`. Raises ValueError with one sentence."""
    from webapp.identity import ProxyHeader, network

    networks: tuple[Network, ...] = tuple(network(text) for text in trusted)
    if accounts is not None and header is not None:
        raise BadInput("Choose one: --accounts, or --trust-header.")
    if header is None and admins:
        raise BadInput("--admin goes with --trust-header; an account's role is in its file.")
    if header is not None and not networks:
        raise BadInput("--trust-header needs --trusted-proxy: anybody could send that header.")
    if header is None and accounts is None:
        if networks:
            raise BadInput("--trusted-proxy goes with --accounts or --trust-header.")
        return None, None
    if header is not None:
        if not admins:
            tell("  nobody is an admin: name one with --admin NAME to start audits here")
        return ProxyHeader(header=header, trusted=networks, admins=frozenset(admins)), None
    from webapp.login import Login
    from webapp.sessions import Sessions

    known = Accounts(accounts or Path())
    sessions = Sessions(known)
    return sessions, Login(known, sessions)
