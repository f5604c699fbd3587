"""What the stored audits say about this platform and this model."""

from dataclasses import dataclass
from functools import lru_cache

from audit.front import repeats
from audit.recommendation import REQUIRED
from audit.score import Audit, Score
from core.database import StoreError
from core.narrowing import Evidence
from core.platforms import Platform
from core.request import Model
from core.run import Run
from core.store import Store


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One configuration's row, and the audit it stands in."""

    audit: Audit
    score: Score


class Findings:
    """Reads results once each; a result that was judged anew is read again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read = lru_cache(maxsize=16)(self._result)

    def audit(self, audit_id: str) -> Audit | None:
        """The stored result, None where nothing was judged yet or there is no such audit."""
        try:
            entry = self._store.audit(audit_id)
        except StoreError:
            return None
        return self._read(entry.id, entry.runs, entry.finished_at)

    def judged(self, platform: Platform, model: Model) -> tuple[Audit, ...]:
        """What a recommendation can rest on, the best first.

        Of this model, from this platform, complete, with settings shown to repeat: in this order
        of importance, and then the latest. A hurried look must not hide a thorough one.
        """
        results = (self._read(e.id, e.runs, e.finished_at) for e in self._store.audits())
        there = [result for result in results if result is not None and result.scores]

        def rank(audit: Audit) -> tuple[bool, ...]:
            return (
                audit.model_digest == model.digest,
                audit.platform.fingerprint == platform.fingerprint,
                audit.complete,
                any(repeats(score) for score in audit.scores),
            )

        return tuple(sorted(there, key=rank, reverse=True))

    def of(self, run: Run) -> Finding | None:
        """The newest evidence about a run's configuration, from its platform and its model only.

        Newest of those that tell whether it repeats: a hurried look must not hide a thorough one.
        """
        model = run.job.requests[0].model.digest
        return self.about((run.job.configuration.key, run.environment.fingerprint, model))

    def about(self, evidence: Evidence) -> Finding | None:
        """The same about a configuration's key, on a platform, with a model."""
        key, here, model = evidence
        newest: Finding | None = None
        for entry in self._store.audits():
            result = self._read(entry.id, entry.runs, entry.finished_at)
            if (
                result is None
                or result.model_digest != model
                or result.platform.fingerprint != here
            ):
                continue
            for score in result.scores:
                if score.key == key and not score.placebo and score.runs:
                    found = Finding(audit=result, score=score)
                    if repeats(score) or _broken(score):
                        return found
                    newest = newest or found
        return newest

    def _result(self, audit_id: str, runs: int, finished_at: str | None) -> Audit | None:
        """`runs` and `finished_at` only say when a result may have changed."""
        return self._store.result(audit_id, Audit)


def _broken(score: Score) -> bool:
    return any(
        score.determinism[axis].verdict == "broken"
        for axis in REQUIRED
        if axis in score.determinism
    )
