"""Pictures that belong to no audit, each with its owner: kept, searched, found again, deleted."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from core.database import picture_names, search_text
from core.records import Records, now
from core.run import Run

T = TypeVar("T")

NOBODY = ""
"""The owner of what was made in a terminal, or before owners were kept. It is listed to no one."""

MOST_WORDS = 50
"""Of a search; SQLite reads no condition of a thousand parts."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A run that belongs to no audit."""

    run: Run
    made_at: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, kw_only=True)
class HistoryPage:
    """Some of one owner's generations, the latest first."""

    generations: tuple[Generation, ...]
    total: int
    """How many were found on all pages together."""


class History(Records):
    """An owner is a text that says of which kind it is, as `visitor:…`; nothing reads into it."""

    def add_generation(self, run: Run, owner: str = NOBODY) -> None:
        """Keep a run that belongs to no audit."""
        text = self._dump(run)
        record = json.loads(text)
        with self._writing() as db:
            db.table("generations").insert(
                {
                    "run": text,
                    "created_at": now(),
                    "owner": owner,
                    "job_id": run.job.id,
                    "outcome": run.outcome,
                    "searched": search_text(record),
                }
            )
            for name in picture_names(record):
                shown = {"name": name, "owner": owner, "job_id": run.job.id}
                db.table("shown").insert(shown)

    def generations(self, limit: int = 100) -> tuple[Run, ...]:
        """Everybody's, the latest first."""
        rows = self._rows("select run from generations order by id desc limit ?", [limit])
        return tuple(self._load(Run, row["run"]) for row in rows)

    def generation(self, job_id: str) -> Run | None:
        """The one of this id, whoever's it is: an id cannot be guessed, and may be handed on."""
        rows = self._rows("select run from generations where job_id = ?", [job_id])
        return self._load(Run, rows[0]["run"]) if rows else None

    def owner(self, job_id: str) -> str:
        rows = self._rows("select owner from generations where job_id = ?", [job_id])
        return rows[0]["owner"] if rows else NOBODY

    def history(
        self, owner: str, search: str = "", *, limit: int = 24, skip: int = 0
    ) -> HistoryPage:
        """One owner's pictures in which every word of `search` occurs, in prompts or settings."""
        words = search.casefold().split()[:MOST_WORDS]
        where = "owner = ? and owner != ? and outcome = 'ok'" + " and instr(searched, ?)" * len(
            words
        )
        parameters = [owner, NOBODY, *words]
        skip = min(skip, 2**62)
        (count,) = self._rows(f"select count(*) as n from generations where {where}", parameters)
        # The page's ids first: the index alone answers that, and records are long.
        rows = self._rows(
            "select run, created_at from generations where id in (select id from generations "
            f"where {where} order by id desc limit ? offset ?) order by id desc",
            [*parameters, limit, skip],
        )
        return HistoryPage(
            generations=tuple(
                Generation(run=self._load(Run, row["run"]), made_at=row["created_at"])
                for row in rows
            ),
            total=count["n"],
        )

    def generation_without_twin(self, since: str) -> Run | None:
        """The latest of anybody's pictures made after a moment whose twin nobody looked after."""
        rows = self._rows(
            "select run from generations where owner != ? and outcome = 'ok' and created_at > ? "
            "and job_id not in (select job_id from twins) order by id desc limit 1",
            [NOBODY, since],
        )
        return self._load(Run, rows[0]["run"]) if rows else None

    def add_twin(self, job_id: str, twin: object, run: Run | None = None) -> None:
        """Keep what became of a generation's twin, and the run that made it where there is one;
        nothing where the generation was deleted meanwhile."""
        text = self._dump(run) if run else None
        with self._writing() as db:
            db.execute(
                "insert or replace into twins (job_id, run, twin, saved_at) select ?, ?, ?, ? "
                "where exists (select 1 from generations where job_id = ?)",
                [job_id, text, self._dump(twin), now(), job_id],
            )
            for name in picture_names(json.loads(text)) if text else ():
                db.execute(
                    "insert into shown (name, owner, job_id) select ?, owner, job_id "
                    "from generations where job_id = ?",
                    [name, job_id],
                )

    def twin(self, job_id: str, kind: type[T]) -> T | None:
        """None where nobody looked after it yet."""
        rows = self._rows("select twin from twins where job_id = ?", [job_id])
        return self._load(kind, rows[0]["twin"]) if rows else None

    def delete_generation(self, job_id: str, owner: str) -> bool:
        """Forget an owner's run with its twin, and their files where nothing else shows them.

        False, with nothing changed, where the owner has no such run.
        """
        if owner == NOBODY:
            return False
        mine = "from generations where job_id = ? and owner = ?"
        with self._writing() as db:
            rows = self._rows(f"select run {mine}", [job_id, owner])
            if not rows:
                return False
            rows += db.query("select run from twins where job_id = ? and run is not null", [job_id])
            db.execute(f"delete {mine}", [job_id, owner])
            db.execute("delete from shown where job_id = ? and owner = ?", [job_id, owner])
            db.execute("delete from twins where job_id = ?", [job_id])
            pictures = [p for row in rows for p in self._load(Run, row["run"]).pictures]
            alone = {
                picture.path
                for picture in pictures
                if picture.path is not None and not self._is_shown(picture.path)
            }
        for path in alone:
            path.unlink(missing_ok=True)
        return True

    def shows(self, owner: str, name: str) -> bool:
        """Whether a picture file of this name is one of the owner's, or one of an audit's."""
        if owner == NOBODY:
            return False
        mine = "select 1 from shown where name = ? and owner = ?"
        return bool(self._rows(mine, [name, owner])) or self._is_in(("runs", "excluded_runs"), name)

    def stored_bytes(self, owner: str) -> int:
        """What an owner's picture files take on the disk; equal ones are one file."""
        names = self._rows("select distinct name from shown where owner = ?", [owner])
        return sum(_size(self.pictures / row["name"]) for row in names)

    def _is_shown(self, path: Path) -> bool:
        """Whether any stored run still names this file; equal pictures share one."""
        return self._is_in(("generations", "runs", "excluded_runs", "twins"), path.name)

    def _is_in(self, tables: tuple[str, ...], name: str) -> bool:
        return any(
            self._rows(f"select 1 from {table} where instr(run, ?) limit 1", [name])
            for table in tables
        )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
