"""Shadow twins, each by the job of the picture that it was made for; they go with that picture."""

import json
from typing import TypeVar

from core.database import file_names
from core.kept_files import KeptFiles
from core.records import now
from core.run import Run

T = TypeVar("T")


class KeptTwins(KeptFiles):
    """What the baseline makes of somebody's picture, and what came of comparing the two."""

    def generation_without_twin(self, since: str) -> Run | None:
        """The latest of anybody's pictures made after a moment whose twin nobody looked after."""
        rows = self._rows(
            "select run from generations where owner != '' and outcome = 'ok' and created_at > ? "
            "and job_id not in (select job_id from twins) order by id desc limit 1",
            [since],
        )
        return self._load(Run, rows[0]["run"]) if rows else None

    def add_twin(self, job_id: str, twin: object, run: Run | None = None) -> None:
        """Keep what became of a generation's twin, and the run that made it where there is one;
        nothing where the generation was deleted meanwhile."""
        text = self._dump(run) if run else None
        names = file_names(json.loads(text)) if text else ()
        with self._writing():
            self._change(
                "insert or replace into twins (job_id, run, twin, saved_at) select ?, ?, ?, ? "
                "where exists (select 1 from generations where job_id = ?)",
                [job_id, text, self._dump(twin), now(), job_id],
            )
            # Where it is deleted and shown to people, a twin's file is like the picture's own.
            for row in self._rows("select id from generations where job_id = ?", [job_id]):
                self._add_files(names, row["id"])

    def twin(self, job_id: str, kind: type[T]) -> T | None:
        """None where nobody looked after it yet."""
        rows = self._rows("select twin from twins where job_id = ?", [job_id])
        return self._load(kind, rows[0]["twin"]) if rows else None
