"""The file of accounts: one line each, `name:role:hash`, and `#` before what is no account."""

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from webapp.passwords import Hashed, hashed, read_hashed

NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_HEAD = "# Accounts of Seedproof: name:role:hash. Change it with `seedproof account add`.\n"


@dataclass(frozen=True, kw_only=True)
class Account:
    name: str
    role: Literal["admin", "user"]
    password: Hashed


class Accounts:
    """The accounts of a file, read anew whenever it changes, so that a server need not restart.

    Raises ValueError at first where the file cannot be used, with one sentence. Later a file that
    is gone or broken lets nobody in until it is whole again.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._accounts: Mapping[str, Account] = read_accounts(file)
        if not self._accounts:
            raise ValueError(f"{file} has no account: add one with seedproof account add.")
        # Somebody who types a name that does not exist waits as long as with one that does.
        self._nobody = hashed("nobody has this password")

    def find(self, name: str) -> Account | None:
        with self._lock:
            self._refresh()
            return self._accounts.get(name)

    def check(self, name: str, password: str) -> Account | None:
        """The account of this name and password."""
        found = self.find(name)
        right = (found.password if found else self._nobody).is_of(password)
        return found if right else None

    def _refresh(self) -> None:
        try:
            state = self._file.stat()
            seen = (state.st_mtime_ns, state.st_size, state.st_ino)
            if seen != self._seen:
                self._accounts, self._seen = read_accounts(self._file), seen
        except (OSError, ValueError):
            self._accounts, self._seen = {}, None


def read_accounts(file: Path) -> dict[str, Account]:
    """By name. Raises ValueError with one sentence where the file cannot be used."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"The accounts' file {file} cannot be read ({getattr(error, 'strerror', 'no text')}): "
            f"make it with seedproof account add NAME --file {file}."
        ) from None
    found: dict[str, Account] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, role, password = line.strip().split(":")
            if role not in ("admin", "user") or not NAME.fullmatch(name) or name in found:
                raise ValueError(name)
            found[name] = Account(name=name, role=role, password=read_hashed(password))  # type: ignore[arg-type]
        except (ValueError, StopIteration):
            raise ValueError(
                f"Line {number} of {file} is no account, or a second of its name: it should be "
                "name:admin:hash or name:user:hash."
            ) from None
    return found


def add_account(
    file: Path, name: str, password: str, *, admin: bool = False, replace: bool = False
) -> None:
    """Write an account into the file, which is made where there is none, for its owner's eyes.

    Raises ValueError with one sentence; then the file is as it was.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"A name has small letters, digits and . _ @ - only, 64 at most, not {name!r}."
        )
    known = read_accounts(file) if file.exists() else {}
    if name in known and not replace:
        raise ValueError(f"There is an account {name} already: --replace gives it a new password.")
    role: Literal["admin", "user"] = "admin" if admin else "user"
    account = Account(name=name, role=role, password=hashed(password))
    text = file.read_text(encoding="utf-8") if known or file.exists() else _HEAD
    lines = [line for line in text.splitlines() if line.split(":")[0].strip() != name]
    _write(file, "\n".join([*lines, f"{name}:{role}:{account.password}"]) + "\n")


def _write(file: Path, text: str) -> None:
    """At once or not at all; new files may be read by their owner only."""
    try:
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
        handle, made = tempfile.mkstemp(dir=file.absolute().parent, prefix=".accounts-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(made).chmod(mode)
            Path(made).replace(file)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(made).unlink()
            raise
    except OSError as error:
        raise ValueError(f"{file} cannot be written ({error.strerror}).") from None
