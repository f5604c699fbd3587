"""Grids of pictures, each with its owner; their pictures are generations like any other."""

from dataclasses import dataclass
from typing import TypeVar

from core.history import NOBODY
from core.records import Records, now

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class GridEntry:
    """One line of the list of grids."""

    id: str
    name: str
    created_at: str
    """ISO 8601, UTC."""


class KeptGrids(Records):
    """What was asked for; what became of it follows from the runs of its jobs."""

    def add_grid(self, grid_id: str, owner: str, name: str, grid: object) -> None:
        with self._writing():
            self._change(
                "insert into grids values (?, ?, ?, ?, ?)",
                [grid_id, owner, name, self._dump(grid), now()],
            )

    def grid(self, grid_id: str, owner: str, kind: type[T]) -> T | None:
        """None where there is none, or where it is another's."""
        rows = self._rows("select grid from grids where id = ? and owner = ?", [grid_id, owner])
        return self._load(kind, rows[0]["grid"]) if rows else None

    def grids(self, owner: str, limit: int = 12) -> tuple[GridEntry, ...]:
        """An owner's, the latest first; nobody's are listed to no one."""
        if owner == NOBODY:
            return ()
        rows = self._rows(
            "select id, name, created_at from grids where owner = ? "
            "order by created_at desc, rowid desc limit ?",
            [owner, limit],
        )
        return tuple(GridEntry(**row) for row in rows)
