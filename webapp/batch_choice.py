"""Batches for pictures that are asked for here, by the stored audits and the memory there is."""

import psutil

from audit.batching import BatchEvidence, Batching, batch_evidence, batching
from audit.plan import Plan
from core.hardware import look
from core.ladder import Choice
from core.models import native_size
from core.optimization import Configuration
from core.planner import predict, usable
from core.platforms import Platform
from core.request import Request
from core.store import Store
from webapp.findings import Findings

_LATEST = 200
"""Stored runs that are looked at for measurements."""


def choose(
    count: int,
    request: Request,
    configuration: Configuration,
    platform: Platform,
    store: Store,
    findings: Findings,
    *,
    allowed: bool,
    room: int | None,
) -> Batching:
    """How `count` pictures like `request` are split; `room` are the bytes they may take, None
    where this device does not tell."""
    native, digest = native_size(request.model), request.model.digest
    measured = usable(store.generations(_LATEST), digest, platform.fingerprint)

    def fits(size: int) -> bool | None:
        choice = Choice(configuration=configuration, batch_size=size)
        predicted = predict(choice, request, measured, native)
        if predicted is None or room is None:
            return None
        return predicted.peak_bytes <= room

    found = evidence(platform, digest, configuration.key, store, findings)
    return batching(count, request, found, fits, allowed=allowed)


def evidence(
    platform: Platform, model_digest: str, key: str, store: Store, findings: Findings
) -> BatchEvidence | None:
    """What the newest complete audit of this platform and model that tried batches found."""
    for entry in store.audits():
        audit = findings.audit(entry.id) if entry.finished_at else None
        if (
            audit is not None
            and audit.complete
            and audit.platform.fingerprint == platform.fingerprint
            and audit.model_digest == model_digest
            and (found := batch_evidence(audit, store.plan(entry.id, Plan), key))
        ):
            return found
    return None


def room(platform: Platform, worker: int | None = None) -> int | None:
    """Bytes that pictures may take: what is free, and on a CPU what their process holds already.

    On a GPU what the worker holds is left out, because only its own process can tell.
    """
    free = look(platform).free_bytes
    if free is None or worker is None or platform.device != "cpu":
        return free
    try:
        held: int = psutil.Process(worker).memory_info().rss
    except psutil.Error:
        held = 0
    return free + held
