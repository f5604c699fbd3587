"""Addresses for whoever runs the server: is it alive, does it take work, what does it do.

They need no login, because load balancers have none, and say nothing about anybody's work.
"""

import sqlite3
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from core.database import StoreError
from webapp.services import Services


def router(services: Services) -> APIRouter:
    """`/healthz` answers while the process lives; `/readyz` while a picture could be asked for,
    503 with the reasons otherwise; `/metrics` is Prometheus's, where the policy has it."""
    found = APIRouter()

    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    def readyz() -> JSONResponse:
        reasons = unready(services)
        body: dict[str, Any] = {"ready": not reasons, "reasons": reasons}
        return JSONResponse(body, status_code=503 if reasons else 200)

    found.add_api_route("/healthz", healthz, methods=["GET"])
    found.add_api_route("/readyz", readyz, methods=["GET"])
    if (counted := services.metrics) is not None and services.policy.metrics:

        def metrics() -> Response:
            text, kind = counted.page()
            return Response(text, media_type=kind)

        found.add_api_route("/metrics", metrics, methods=["GET"])
    return found


def unready(services: Services) -> list[str]:
    """Why no picture could be asked for now, one sentence each; none where one could."""
    reasons = []
    if not services.jobs.open:
        reasons.append("The server is stopping.")
    try:
        services.store.audits()
    except (StoreError, sqlite3.Error) as error:
        reasons.append(f"The database does not answer: {error}")
    return reasons
