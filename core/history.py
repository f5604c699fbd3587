"""Pictures that belong to no audit, each with its owner: kept, searched, found again, deleted."""

import json
from dataclasses import dataclass
from pathlib import Path

from core.database import search_text
from core.records import Records, now
from core.run import Run

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
        with self._writing() as db:
            db.table("generations").insert(
                {
                    "run": text,
                    "created_at": now(),
                    "owner": owner,
                    "job_id": run.job.id,
                    "outcome": run.outcome,
                    "searched": search_text(json.loads(text)),
                }
            )

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

    def delete_generation(self, job_id: str, owner: str) -> bool:
        """Forget an owner's run, and its files where nothing else shows them.

        False, with nothing changed, where the owner has no such run.
        """
        if owner == NOBODY:
            return False
        mine = "from generations where job_id = ? and owner = ?"
        with self._writing() as db:
            rows = self._rows(f"select run {mine}", [job_id, owner])
            if not rows:
                return False
            db.execute(f"delete {mine}", [job_id, owner])
            run = self._load(Run, rows[0]["run"])
            alone = [
                picture.path
                for picture in run.pictures
                if picture.path is not None and not self._is_shown(picture.path)
            ]
        for path in alone:
            path.unlink(missing_ok=True)
        return True

    def _is_shown(self, path: Path) -> bool:
        """Whether any stored run still names this file; equal pictures share one."""
        tables = ("generations", "runs", "excluded_runs")
        return any(
            self._rows(f"select 1 from {table} where instr(run, ?) limit 1", [path.name])
            for table in tables
        )
