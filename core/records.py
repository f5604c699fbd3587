"""One SQLite file of frozen records, shared by the threads of a process and by other processes."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlite_utils import Database

from core.database import Access, StoreError, explained, open_database
from core.serialization import dump, load

T = TypeVar("T")


class Records:
    """The file, its lock, and the way in and out for records; what they mean is a subclass's."""

    def __init__(self, path: Path, access: Access = "shared") -> None:
        self.path = path.absolute()
        self.pictures = self.path.parent / "pictures"
        self._lock = threading.RLock()
        self._db = open_database(self.path, access)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _dump(self, record: object) -> str:
        return dump(record, self.pictures)

    def _load(self, kind: type[T], text: str) -> T:
        try:
            return load(kind, text, self.pictures)
        except ValueError as error:
            raise StoreError(f"{self.path}: {error}") from error

    @contextmanager
    def _writing(self) -> Iterator[Database]:
        """One transaction, with the write lock from its beginning."""
        with self._lock, explained(self.path):
            self._db.execute("begin immediate")
            try:
                yield self._db
            except BaseException:
                self._db.rollback()
                raise
            self._db.commit()

    def _rows(self, sql: str, parameters: Iterable[Any] = ()) -> list[dict[str, Any]]:
        with self._lock, explained(self.path):
            return list(self._db.query(sql, [_storable(value) for value in parameters]))

    def _change(self, sql: str, parameters: Iterable[Any] = ()) -> int:
        """One statement of a transaction, see `_writing`; how many rows it changed."""
        return self._db.execute(sql, [_storable(value) for value in parameters]).rowcount


def _storable(value: object) -> object:
    """Whatever a browser sent: half of a surrogate pair is no text for SQLite."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def now() -> str:
    """ISO 8601, UTC, as every stored moment."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
