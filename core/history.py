"""Pictures that belong to no audit, each with its owner: kept, searched, found again, deleted."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from core import thumbnail
from core.database import FACETS, facets, file_names, search_text
from core.kept_files import KeptFiles
from core.narrowing import EVERYTHING, Evidence, Narrowing, tag
from core.records import now
from core.run import Run

NOBODY = ""
"""The owner of what was made in a terminal, or before owners were kept. It is listed to no one."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A run that belongs to no audit."""

    run: Run
    made_at: str
    """ISO 8601, UTC."""
    tags: tuple[str, ...] = ()
    shared: bool = False
    """Whether its address opens it for others too."""
    owner: str = NOBODY


@dataclass(frozen=True, kw_only=True)
class HistoryPage:
    """Some of one owner's generations, the latest first."""

    generations: tuple[Generation, ...]
    total: int
    """How many were found on all pages together."""


@dataclass(frozen=True, kw_only=True)
class Facet:
    """How many of an owner's pictures are alike in all that a history is narrowed by."""

    sampler: str
    size: str
    settings: str
    platform: str
    model: str
    count: int

    @property
    def evidence(self) -> Evidence:
        return self.settings, self.platform, self.model


_ROW = "run, created_at, tags, shared, owner"
_MINE = "owner = ? and owner != '' and outcome = 'ok'"


class History(KeptFiles):
    """An owner is a text that says of which kind it is, as `visitor:…`; nothing reads into it."""

    def add_generation(self, run: Run, owner: str = NOBODY) -> None:
        """Keep a run that belongs to no audit."""
        text = self._dump(run)
        plain = json.loads(text)
        row = {
            "run": text,
            "created_at": now(),
            "owner": owner,
            "job_id": run.job.id,
            "outcome": run.outcome,
            "searched": search_text(plain),
            **dict(zip(FACETS, facets(plain), strict=True)),
        }
        with self._writing() as db:
            generation = db.table("generations").insert(row).last_rowid
            self._add_files(file_names(plain), generation)

    def generations(self, limit: int = 100) -> tuple[Run, ...]:
        """Everybody's, the latest first."""
        rows = self._rows("select run from generations order by id desc limit ?", [limit])
        return tuple(self._load(Run, row["run"]) for row in rows)

    def generation(self, job_id: str) -> Run | None:
        """The one of this id, whoever's it is."""
        rows = self._rows("select run from generations where job_id = ?", [job_id])
        return self._load(Run, rows[0]["run"]) if rows else None

    def kept(self, job_id: str) -> Generation | None:
        """The same with what is kept beside it. Whether it is for who asks, the asker decides."""
        rows = self._rows(f"select {_ROW} from generations where job_id = ?", [job_id])
        return self._generation(rows[0]) if rows else None

    def runs_of(self, job_ids: Sequence[str], owner: str) -> dict[str, Run]:
        """Those of an owner's runs that are stored by now, by the id of their job."""
        marks = ", ".join("?" * len(job_ids))
        rows = self._rows(
            f"select job_id, run from generations where job_id in ({marks}) and owner = ? "
            "order by id",
            [*job_ids, owner],
        )
        return {row["job_id"]: self._load(Run, row["run"]) for row in rows}

    def owner(self, job_id: str) -> str:
        rows = self._rows("select owner from generations where job_id = ?", [job_id])
        return rows[0]["owner"] if rows else NOBODY

    def history(
        self,
        owner: str,
        search: str = "",
        *,
        limit: int = 24,
        skip: int = 0,
        narrowing: Narrowing = EVERYTHING,
    ) -> HistoryPage:
        """One owner's pictures in which every word of `search` occurs, in prompts or settings,
        and for which all else that the narrowing names holds."""
        where, parameters = self._where(owner, replace(narrowing, search=search))
        skip = min(skip, 2**62)
        (count,) = self._rows(f"select count(*) as n from generations where {where}", parameters)
        # The page's ids first: the index alone answers that, and records are long.
        rows = self._rows(
            f"select {_ROW} from generations where id in (select id from generations "
            f"where {where} order by id desc limit ? offset ?) order by id desc",
            [*parameters, limit, skip],
        )
        return HistoryPage(
            generations=tuple(self._generation(row) for row in rows), total=count["n"]
        )

    def ids(self, owner: str, narrowing: Narrowing, limit: int) -> tuple[str, ...]:
        """Of the jobs of one owner's pictures, the latest first."""
        where, parameters = self._where(owner, narrowing)
        rows = self._rows(
            "select job_id from generations where id in (select id from generations "
            f"where {where} order by id desc limit ?) order by id desc",
            [*parameters, limit],
        )
        return tuple(row["job_id"] for row in rows)

    def facets(self, owner: str) -> tuple[Facet, ...]:
        """Everything an owner's pictures can be narrowed by, the most frequent first."""
        names = ", ".join(FACETS)
        rows = self._rows(
            f"select {names}, count(*) as count from generations where {_MINE} group by {names} "
            "order by count desc",
            [owner],
        )
        return tuple(Facet(**row) for row in rows)

    def tags(self, owner: str) -> dict[str, int]:
        """Every tag of an owner's, with the number of its pictures, by name."""
        rows = self._rows(
            f"select tags, count(*) as n from generations where {_MINE} and tags != '' "
            "group by tags",
            [owner],
        )
        counts: dict[str, int] = {}
        for row in rows:
            for name in _tags(row["tags"]):
                counts[name] = counts.get(name, 0) + row["n"]
        return dict(sorted(counts.items()))

    def change_tags(
        self, job_ids: Iterable[str], owner: str, *, add: str = "", remove: str = ""
    ) -> int:
        """Add a tag to an owner's pictures, or take one away; how many changed.

        Raises ValueError with a sentence for a tag that cannot be one.
        """
        added, removed = tag(add) if add else "", tag(remove) if remove else ""
        changed = 0
        with self._writing():
            for job_id in job_ids:
                where = [job_id, owner, NOBODY]
                mine = "where job_id = ? and owner = ? and owner != ?"
                for row in self._rows(f"select tags from generations {mine}", where):
                    before = set(_tags(row["tags"]))
                    after = (before | {added}) - {"", removed}
                    if after != before:
                        text = "".join(f"\n{name}" for name in sorted(after))
                        written = f"{text}\n" if text else ""
                        changed += self._change(
                            f"update generations set tags = ? {mine}", [written, *where]
                        )
        return changed

    def share(self, job_id: str, owner: str, shared: bool) -> bool:
        """Open a picture's address to others, or close it; False where it is not the owner's."""
        with self._writing():
            changed = self._change(
                "update generations set shared = ? where job_id = ? and owner = ? and owner != ?",
                [int(shared), job_id, owner, NOBODY],
            )
        return changed > 0

    def delete_generation(self, job_id: str, owner: str) -> bool:
        """Forget an owner's run with its twin, and their files where nothing else shows them.

        False, with nothing changed, where the owner has no such run.
        """
        return self.delete_generations([job_id], owner) == 1

    def delete_generations(self, job_ids: Iterable[str], owner: str) -> int:
        """Forget those of the runs that are the owner's, with their twins, in one transaction; how
        many there were.

        Their files go where nothing else shows them: equal pictures share one.
        """
        if owner == NOBODY:
            return 0
        names: set[str] = set()
        deleted = 0
        with self._writing():
            for job_id in job_ids:
                found = self._rows(
                    "select id from generations where job_id = ? and owner = ?", [job_id, owner]
                )
                for row in found:
                    files = "select name from generation_files where generation = ?"
                    names |= {file["name"] for file in self._rows(files, [row["id"]])}
                    self._change("delete from generations where id = ?", [row["id"]])
                    self._change("delete from twins where job_id = ?", [job_id])
                    deleted += 1
            alone = names - self._shown(names)
        for name in alone:
            (self.pictures / name).unlink(missing_ok=True)
            thumbnail.place(self.pictures / name).unlink(missing_ok=True)
        return deleted

    def _where(self, owner: str, narrowing: Narrowing) -> tuple[str, list[object]]:
        more, parameters = narrowing.where()
        return _MINE + more, [owner, *parameters]

    def _generation(self, row: dict[str, object]) -> Generation:
        return Generation(
            run=self._load(Run, str(row["run"])),
            made_at=str(row["created_at"]),
            tags=_tags(str(row["tags"])),
            shared=bool(row["shared"]),
            owner=str(row["owner"]),
        )


def _tags(column: str) -> tuple[str, ...]:
    """Each stands between two line ends, so that one is never found inside another."""
    return tuple(name for name in column.split("\n") if name)
