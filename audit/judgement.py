"""A stored audit, judged on whatever runs it has by now."""

from audit.calibration import gates_of
from audit.pictures import load_picture
from audit.plan import Plan
from audit.prompt_scoring import judge_of
from audit.schedule import expand
from audit.score import Audit
from audit.scoring import score
from core.platforms import Platform
from core.request import Model
from core.store import Store


def judge(store: Store, audit_id: str) -> Audit:
    """Score the audit's runs and keep the result in the store.

    May be called while the audit runs: the result then says that it is not complete. A complete
    result stands: a later version may plan other runs, and would miss them. Raises StoreError
    where there is no such audit.
    """
    entry = store.audit(audit_id)
    if (known := store.result(audit_id, Audit)) and known.complete:
        return known
    plan, platform = store.plan(audit_id, Plan), store.platform(audit_id, Platform)
    model = store.model(audit_id, Model)
    gates, origin = gates_of(model)
    prompt_judge, how_judged = judge_of(model)
    result = score(
        plan,
        expand(plan, platform),
        store.runs(audit_id),
        platform,
        load_picture=load_picture,
        audit_id=audit_id,
        started_at=entry.started_at,
        finished_at=entry.finished_at,
        seconds=entry.seconds,
        gates=gates,
        judge=prompt_judge,
        notes=(origin, how_judged),
    )
    store.save_result(audit_id, result)
    return result
