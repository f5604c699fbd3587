"""What was done, kept: audits, runs and results in one SQLite file, with pictures beside it.

Records go in as JSON through pydantic and come out equal. A reader names the type it expects
(`store.plan(id, Plan)`), so that this package need not know who judges runs.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from core.database import StoreError
from core.history import History
from core.kept_grids import KeptGrids
from core.kept_twins import KeptTwins
from core.presets import Presets
from core.records import now
from core.run import Run

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One line of the list of audits."""

    id: str
    name: str
    """The plan's."""
    started_at: str
    """ISO 8601, UTC; so is `finished_at`."""
    finished_at: str | None
    """None while runs are missing."""
    seconds: float
    """Spent in runs and process starts, over all sittings."""
    runs: int
    """Stored so far."""


class Store(History, KeptTwins, Presets, KeptGrids):
    """One database file. Many processes may read while one writes, unless it is opened for
    exclusive access; threads may share a store.

    Audits with their runs and results stand here, pictures of no audit in `core.history`, their
    twins in `core.kept_twins`, and what an owner keeps beside them in `core.presets` and
    `core.kept_grids`.
    """

    # Audits

    def add_audit(self, name: str, *, plan: object, platform: object, model: object) -> str:
        """Begin an audit; its id is new."""
        audit_id = uuid.uuid4().hex[:12]
        with self._writing() as db:
            db.table("audits").insert(
                {
                    "id": audit_id,
                    "name": name,
                    "plan": self._dump(plan),
                    "platform": self._dump(platform),
                    "model": self._dump(model),
                    "started_at": now(),
                    "finished_at": None,
                    "seconds": 0.0,
                }
            )
        return audit_id

    def finish_audit(self, audit_id: str) -> None:
        """Note that no run is missing; the first such moment stays."""
        with self._writing() as db:
            db.execute(
                "update audits set finished_at = coalesce(finished_at, ?) where id = ?",
                [now(), audit_id],
            )

    def audits(self) -> tuple[AuditEntry, ...]:
        """All of them, the latest first."""
        rows = self._rows(
            "select id, name, started_at, finished_at, seconds, "
            "(select count(*) from runs where audit_id = audits.id) as runs "
            "from audits order by started_at desc, rowid desc"
        )
        return tuple(AuditEntry(**row) for row in rows)

    def audit(self, audit_id: str) -> AuditEntry:
        for entry in self.audits():
            if entry.id == audit_id:
                return entry
        raise self._no_audit(audit_id)

    def plan(self, audit_id: str, kind: type[T]) -> T:
        return self._load(kind, self._audit_column(audit_id, "plan"))

    def platform(self, audit_id: str, kind: type[T]) -> T:
        return self._load(kind, self._audit_column(audit_id, "platform"))

    def model(self, audit_id: str, kind: type[T]) -> T:
        return self._load(kind, self._audit_column(audit_id, "model"))

    # Runs

    def add_run(
        self,
        audit_id: str,
        identity: str,
        run: Run,
        *,
        seconds: float = 0.0,
        instead_of: Iterable[str] = (),
    ) -> None:
        """Store a run and the seconds it took, in one transaction.

        `instead_of` names runs that this one makes void, because they came from a process that no
        longer counts: they move to the excluded runs in the same transaction.
        """
        with self._writing() as db:
            for void in instead_of:
                where = [audit_id, void]
                db.execute(
                    "insert into excluded_runs (audit_id, identity, run, stored_at, reason) "
                    "select audit_id, identity, run, stored_at, ? from runs "
                    "where audit_id = ? and identity = ?",
                    ["its process ended before its last run, which was repeated", *where],
                )
                db.execute("delete from runs where audit_id = ? and identity = ?", where)
            db.table("runs").insert(
                {
                    "audit_id": audit_id,
                    "identity": identity,
                    "run": self._dump(run),
                    "stored_at": now(),
                }
            )
            db.execute("update audits set seconds = seconds + ? where id = ?", [seconds, audit_id])

    def identities(self, audit_id: str) -> frozenset[str]:
        """Which runs are stored."""
        rows = self._rows("select identity from runs where audit_id = ?", [audit_id])
        return frozenset(row["identity"] for row in rows)

    def runs(self, audit_id: str) -> dict[str, Run]:
        """Identity → run, in the order in which they were stored."""
        rows = self._rows(
            "select identity, run from runs where audit_id = ? order by rowid", [audit_id]
        )
        return {row["identity"]: self._load(Run, row["run"]) for row in rows}

    def excluded_runs(self, audit_id: str) -> tuple[tuple[str, Run, str], ...]:
        """Identity, run and reason of every run that was repeated; nothing is thrown away."""
        rows = self._rows(
            "select identity, run, reason from excluded_runs where audit_id = ? order by id",
            [audit_id],
        )
        return tuple((r["identity"], self._load(Run, r["run"]), r["reason"]) for r in rows)

    # Results

    def save_result(self, audit_id: str, result: object) -> None:
        """Keep what was judged, in place of what was judged before."""
        with self._writing() as db:
            db.table("results").insert(
                {"audit_id": audit_id, "result": self._dump(result), "saved_at": now()},
                replace=True,
            )

    def result(self, audit_id: str, kind: type[T]) -> T | None:
        rows = self._rows("select result from results where audit_id = ?", [audit_id])
        return self._load(kind, rows[0]["result"]) if rows else None

    # How

    def _audit_column(self, audit_id: str, column: str) -> str:
        for row in self._rows(f"select {column} as value from audits where id = ?", [audit_id]):
            value: str = row["value"]
            return value
        raise self._no_audit(audit_id)

    def _no_audit(self, audit_id: str) -> StoreError:
        known = ", ".join(entry.id for entry in self.audits()[:5]) or "none yet"
        return StoreError(f"No audit {audit_id!r} in {self.path}; the latest are: {known}.")
