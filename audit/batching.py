"""How pictures are split into batches: together only where an audit here found that it leaves them
unchanged, or where somebody allows it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audit.plan import Plan
from audit.schedule import POSITION_BATCH
from audit.score import Audit, AxisVerdict
from audit.units import bound, counted, trials
from core.request import Request

MOST = 8
"""Pictures computed together at most, where that is allowed whatever it changes."""


@dataclass(frozen=True, kw_only=True)
class BatchEvidence:
    """What an audit found about batches under one configuration."""

    audit_id: str
    size: AxisVerdict
    """Alone against first of a batch."""
    position: AxisVerdict | None
    """First of a batch against last; None where it was not tried."""
    tried: tuple[int, ...]
    """Pictures in a batch, from the fewest."""
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Pictures in each batch, in order, and why as one sentence; empty for a single picture."""

    sizes: tuple[int, ...]
    reason: str = ""

    def split(self, requests: Sequence[Request]) -> tuple[tuple[Request, ...], ...]:
        """The requests of each batch. Raises ValueError where they are not as many as planned."""
        if len(requests) != sum(self.sizes):
            raise ValueError(f"{len(requests)} pictures do not fill {sum(self.sizes)} places.")
        ends = [sum(self.sizes[: place + 1]) for place in range(len(self.sizes))]
        return tuple(
            tuple(requests[end - size : end]) for end, size in zip(ends, self.sizes, strict=True)
        )


def batch_evidence(audit: Audit, plan: Plan, key: str) -> BatchEvidence | None:
    """What the audit of this plan found for a configuration; None where it tried no batch on it."""
    row = next((score for score in audit.scores if score.key == key and not score.placebo), None)
    size = row.determinism.get("batch-size") if row else None
    if row is None or size is None or not size.trials:
        return None
    position = row.determinism.get("batch-position")
    if position is not None and not position.trials:
        position = None
    tried = {*plan.batch_sizes, *([POSITION_BATCH] if position else [])}
    return BatchEvidence(
        audit_id=audit.audit_id,
        size=size,
        position=position,
        tried=tuple(sorted(tried)),
        width=audit.width,
        height=audit.height,
    )


def batching(
    count: int,
    request: Request,
    evidence: BatchEvidence | None,
    fits: Callable[[int], bool | None],
    *,
    allowed: bool = False,
) -> Batching:
    """Split `count` pictures like `request`.

    - `evidence`: of this platform, model and configuration; None where no audit tried batches.
    - `fits`: whether so many together fit into the memory there is; None where nothing was
      measured to tell it from.
    - `allowed`: together even where that changes pixels, or where nobody knows.
    """
    if count == 1:
        return Batching(sizes=(1,))
    against = _against(evidence, request)
    if evidence is not None and not against:
        sizes: Sequence[int] = [size for size in evidence.tried if size <= count]
        because = _held(evidence)
    elif allowed:
        sizes = range(2, min(MOST, count) + 1)
        because = f"as you allowed, although {against}"
    else:
        return _alone(count, against)
    room = {size: fits(size) for size in sizes}
    fitting = [size for size, found in room.items() if found]
    if not fitting:
        unknown = None in room.values()
        return _alone(
            count,
            "how much memory a batch takes was not measured here yet with these settings"
            if unknown
            else "a batch would take more memory than there is",
        )
    left, made = count, list[int]()
    while left:
        made.append(max((size for size in fitting if size <= left), default=1))
        left -= made[-1]
    less = ""
    if max(made) < max(sizes):
        less = " A larger batch would take more memory than there is."
    return Batching(sizes=tuple(made), reason=f"{max(made)} at a time: {because}.{less}")


def _alone(count: int, why: str) -> Batching:
    return Batching(sizes=(1,) * count, reason=f"One at a time: {why}.")


def _against(evidence: BatchEvidence | None, request: Request) -> str:
    """Why batches are not known to leave pictures unchanged, as a clause; empty where they are."""
    if evidence is None:
        return "no audit here has tried batches with these settings"
    audit = f"audit {evidence.audit_id}"
    if evidence.size.verdict == "broken":
        return f"on this machine a batch changes the pixels ({audit}: {_differed(evidence.size)})"
    position = evidence.position
    if position is not None and position.verdict == "broken":
        return (
            "on this machine the place in a batch changes the pixels "
            f"({audit}: {_differed(position)})"
        )
    if evidence.size.verdict != "held":
        return f"{audit} did not show that a batch leaves the pixels as they are"
    if position is None or position.verdict != "held":
        return f"{audit} did not show that every place in a batch leaves the pixels as they are"
    if (evidence.width, evidence.height) != (request.width, request.height):
        return f"{audit} tried batches at {evidence.width} × {evidence.height} px only"
    return ""


def _held(evidence: BatchEvidence) -> str:
    sizes = " and ".join(str(size) for size in evidence.tried)
    limit = bound(evidence.size)
    return (
        f"audit {evidence.audit_id} found here that batches of {sizes} leave pictures as they are "
        f"({trials(evidence.size)} trials agree{f', {limit} of the time' if limit else ''})"
    )


def _differed(verdict: AxisVerdict) -> str:
    return f"{verdict.failures} of {counted(verdict.trials, 'trial')} differed"
