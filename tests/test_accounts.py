"""Accounts, tries, sessions and a proxy's word: who somebody is, and who is nobody."""

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from core.history import NOBODY
from webapp import cli, server
from webapp.accounts import Accounts, read_accounts
from webapp.attempts import PER_ADDRESS, PER_NAME, WINDOW, Attempts
from webapp.identity import Identity, ProxyHeader, network, visitor
from webapp.login_page import safe_place
from webapp.passwords import hashed, read_hashed
from webapp.sessions import COOKIE, LASTS, Sessions

CHEAP = (16, 8, 1)
"""A cost for tests that are not about it."""


def write(file: Path, *accounts: tuple[str, str, str]) -> Path:
    lines = [f"{name}:{role}:{hashed(password, CHEAP)}" for name, role, password in accounts]
    file.write_text("\n".join(["# names", "", *lines]) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    ann, ben = ("ann", "admin", "correct horse"), ("ben", "user", "battery staple")
    return write(tmp_path / "accounts", ann, ben)


def asked(cookie: str = "", host: str = "10.0.0.9", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    client = SimpleNamespace(host=host, port=5)
    return SimpleNamespace(headers=Headers(named), client=client, cookies={COOKIE: cookie})


# Passwords and their file


def test_a_password_is_known_again_and_another_is_not() -> None:
    kept = str(hashed("naïve café", CHEAP))
    assert "caf" not in kept
    assert ":" not in kept
    assert kept != str(hashed("naïve café", CHEAP))
    assert read_hashed(kept).is_of("naïve café")
    # The same letters as other code points, as another keyboard sends them.
    assert read_hashed(kept).is_of("nai\u0308ve cafe\u0301")
    assert not read_hashed(kept).is_of("naive cafe")
    for short in ("", "1234567", "x" * 1025):
        with pytest.raises(ValueError, match="8 letters"):
            hashed(short, CHEAP)
    for broken in ("", "scrypt$2$8$1$AA==", "md5$16$8$1$AA==$AA==", "scrypt$9999999$8$1$AA==$AA=="):
        with pytest.raises(ValueError, match=r"."):
            read_hashed(broken)


def test_only_the_right_pair_opens(file: Path) -> None:
    accounts = Accounts(file)
    found = accounts.check("ben", "battery staple")
    assert found is not None
    assert (found.name, found.role) == ("ben", "user")
    for name, password in (("ben", "correct horse"), ("ann", ""), ("nobody", "battery staple")):
        assert accounts.check(name, password) is None


def test_a_changed_file_counts_at_once_and_a_broken_one_lets_nobody_in(file: Path) -> None:
    accounts = Accounts(file)
    write(file, ("cat", "user", "something else"))
    assert accounts.find("ben") is None
    assert accounts.find("cat") is not None
    file.write_text("cat:owner:x\n")
    assert accounts.find("cat") is None
    file.unlink()
    assert accounts.find("cat") is None


@pytest.mark.parametrize("line", ["ann", "ann:user:x", "<b>:user:{h}", "ann:boss:{h}", "{d}"])
def test_a_line_that_is_no_account_is_named(tmp_path: Path, line: str) -> None:
    kept = str(hashed("some password", CHEAP))
    text = line.replace("{h}", kept).replace("{d}", f"ann:user:{kept}\nann:admin:{kept}")
    file = tmp_path / "accounts"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"Line \d of .* is no account"):
        read_accounts(file)
    file.write_text("# nobody\n")
    with pytest.raises(ValueError, match="has no account"):
        Accounts(file)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(str(ended.value.code))


def test_the_terminal_adds_an_account_for_its_owners_eyes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "accounts"

    def add(name: str, password: str, *more: str) -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        return run("account", "add", name, "--file", str(file), *more)

    assert add("ann", "correct horse", "--admin") == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "correct horse" not in file.read_text() + capsys.readouterr().out
    assert add("ann", "another one") == 2
    assert "--replace" in capsys.readouterr().err
    assert Accounts(file).check("ann", "correct horse") is not None
    assert add("ben", "short") == 2
    assert add("<b>ben</b>", "battery staple") == 2
    assert list(read_accounts(file)) == ["ann"]
    assert add("ann", "another one", "--replace") == 0
    known = Accounts(file).check("ann", "another one")
    assert known is not None
    assert known.role == "user"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--trust-header", "X-User"), "needs --trusted-proxy"),
        (("--trust-header", "X-User", "--trusted-proxy", "the proxy"), "address or a range"),
        (("--trust-header", "X-User", "--trusted-proxy", "10.1.2.3/8"), "address or a range"),
        (("--trust-header", "X-User", "--accounts", "x"), "Choose one"),
        (("--trusted-proxy", "10.0.0.1"), "goes with"),
        (("--accounts", "/nowhere/accounts"), "account add NAME"),
        (("--accounts", "x", "--admin", "ann"), "--admin goes with"),
        (("--limits", "/nowhere/limits.toml"), "cannot be read"),
    ],
)
def test_serve_refuses_what_would_let_anybody_in(
    options: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("serve", *options) == 2
    assert sentence in capsys.readouterr().err


# Tries


def test_tries_end_by_address_and_by_name_and_begin_again() -> None:
    now = [100.0]
    attempts = Attempts(lambda: now[0])
    for number in range(PER_ADDRESS):
        assert attempts.begin("10.0.0.1", f"name {number}") == 0
    now[0] += 60
    assert attempts.begin("10.0.0.1", "ann") == WINDOW - 60
    assert attempts.begin("10.0.0.2", "ann") == 0
    for number in range(3, PER_NAME + 2):
        assert attempts.begin(f"10.0.0.{number}", "ann") == 0
    assert attempts.begin("10.0.9.9", "ann") > 0
    now[0] += WINDOW
    assert attempts.begin("10.0.9.9", "ann") == 0


def test_a_success_buys_no_tries_at_others() -> None:
    attempts = Attempts(lambda: 0.0)
    for _ in range(PER_ADDRESS - 1):
        assert attempts.begin("10.0.0.1", "ann") == 0
        assert attempts.begin("10.0.0.1", "mine") == 0
        attempts.succeeded("10.0.0.1", "mine")
    assert attempts.begin("10.0.0.1", "ann") == 0
    assert attempts.begin("10.0.0.1", "ann") > 0


def test_an_ipv6_subscriber_is_one_address() -> None:
    attempts = Attempts(lambda: 0.0)
    for number in range(PER_ADDRESS):
        attempts.begin(f"2001:db8::{number:x}", f"name {number}")
    assert attempts.begin("2001:db8::ffff", "ann") > 0
    assert attempts.begin("2001:db8:0:1::1", "ann") == 0


# Sessions


def test_a_session_is_a_tokens_until_it_ends(file: Path) -> None:
    now = [0.0]
    accounts = Accounts(file)
    sessions = Sessions(accounts, lambda: now[0])
    ben = accounts.check("ben", "battery staple")
    assert ben is not None
    token = sessions.begin(ben)
    assert sessions(asked(token)) == Identity("account:ben", "ben", "user")
    for other in ("", token[:-1], token.upper(), "\udcff"):
        assert sessions(asked(other)) is None
    now[0] = LASTS - 1
    assert sessions(asked(token)) is not None
    now[0] = LASTS
    assert sessions(asked(token)) is None
    again = sessions.begin(ben)
    sessions.end(asked(again))
    assert sessions(asked(again)) is None


@pytest.mark.parametrize("change", ["password", "role", "gone"])
def test_a_changed_account_is_signed_out(file: Path, change: str) -> None:
    accounts = Accounts(file)
    sessions = Sessions(accounts)
    ben = accounts.check("ben", "battery staple")
    assert ben is not None
    token = sessions.begin(ben)
    name = "cat" if change == "gone" else "ben"
    role = "admin" if change == "role" else "user"
    kept = str(ben.password) if change == "role" else str(hashed("another one", CHEAP))
    file.write_text(f"{name}:{role}:{kept}\n")
    assert sessions(asked(token)) is None


# A proxy's header

PROXY = ProxyHeader(
    header="X-Forwarded-User",
    trusted=(network("10.0.0.0/8"), network("fd00::/16")),
    admins=frozenset({"ann"}),
)


def test_a_trusted_proxy_says_who_it_is() -> None:
    ann = asked(x_forwarded_user="ann")
    assert PROXY(ann) == Identity("account:ann", "ann", "admin")
    for host in ("fd00::1", "::ffff:10.1.1.1"):
        found = PROXY(asked(host=host, x_forwarded_user="ben"))
        assert found == Identity("account:ben", "ben", "user")


@pytest.mark.parametrize("host", ["127.0.0.1", "11.0.0.1", "::1", "testclient", "", "10.0.0.1 "])
def test_a_header_from_elsewhere_names_nobody(host: str) -> None:
    assert PROXY(asked(host=host, x_forwarded_user="ann")) is None


def test_a_header_that_is_missing_doubled_or_odd_names_nobody() -> None:
    assert PROXY(asked()) is None
    for odd in ("", " ", "x" * 201, "ann\tben", "ann\x85"):
        assert PROXY(asked(x_forwarded_user=odd)) is None
    twice = asked()
    twice.headers = Headers(raw=[(b"x-forwarded-user", b"ben"), (b"x-forwarded-user", b"ann")])
    assert PROXY(twice) is None
    nowhere = asked(x_forwarded_user="ann")
    nowhere.client = None
    assert PROXY(nowhere) is None


def test_no_other_header_makes_an_address_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """uvicorn believes X-Forwarded-For of its own machine, so that somebody there, or behind
    another program there, could pass for the proxy."""
    served: dict[str, Any] = {}
    monkeypatch.setattr(server, "serve", lambda *args, **kwargs: served.update(kwargs))
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    options = ("--trust-header", "X-Forwarded-User", "--trusted-proxy", "10.0.0.0/8")
    assert run("serve", *options, "--db", str(tmp_path / "x.db")) == 0
    assert served["login"] is None
    identify: Callable[[Request], Identity | None] = served["identify"]

    async def who(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(identify(request)))

    app = Starlette(routes=[Route("/", who)])

    def answer(allowed: str | None) -> str:
        if allowed is not None:
            monkeypatch.setenv("FORWARDED_ALLOW_IPS", allowed)
        config = uvicorn.Config(app, log_config=None)
        config.load()
        client = TestClient(config.loaded_app, client=("127.0.0.1", 4000))
        forged = {"x-forwarded-for": "10.0.0.5:80", "x-forwarded-user": "ann"}
        return client.get("/", headers=forged).text

    assert os.environ["FORWARDED_ALLOW_IPS"] == ""
    assert answer(None) == "None"
    # What it would be otherwise: the attack is real.
    assert "account:ann" in answer("127.0.0.1")


def test_without_accounts_a_browser_is_a_visitor_who_opens_its_own_and_nobodys() -> None:
    one, other = visitor("5" * 32), visitor("6" * 32)
    assert one.owner.startswith("visitor:")
    assert one.role == "visitor"
    assert one.sees(one.owner)
    assert one.sees(NOBODY)
    assert not one.sees(other.owner)
    assert one.manages
    ben = Identity("account:ben", "ben", "user")
    assert ben.sees("account:ben")
    assert not ben.sees("account:cat")
    assert not ben.sees(NOBODY)
    ann = Identity("account:ann", "ann", "admin")
    assert all(ann.sees(owner) for owner in ("account:ann", "account:cat", NOBODY))
    assert not ben.manages


def test_only_a_page_of_ours_follows_a_login() -> None:
    for place in ("", "history", "audit?run=ab12", "history?q=red+apple&page=2"):
        assert safe_place(place) == place
    for elsewhere in ("//evil", "/x", "https://evil", "javascript:x", "a/b", "x?y=/", "\\\\evil"):
        assert safe_place(elsewhere) == ""
