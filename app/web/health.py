"""GET /api/health: whether this service can work; for load balancers, so without a token."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from flask import Blueprint

from app.web.access import open_to_all
from app.web.openapi import describes
from app.web.probes import ask_all
from app.web.resources import resources

PROBE_SECONDS = 2.0

routes = Blueprint("health", __name__)


class Health(TypedDict):
    """Who answers; with `reason` when somebody does not."""

    status: str
    database: bool
    redis: bool
    reason: NotRequired[str]


@routes.get("/api/health")
@open_to_all
@describes("Whether this service can work; for load balancers", Health, also={503: Health})
def health() -> tuple[dict[str, object], int]:
    answers = ask_all(resources().probes, PROBE_SECONDS)
    silent = [name for name, answered in answers.items() if not answered]
    if not silent:
        return {"status": "ok", **answers}, 200
    # Without the error itself: it may name paths and hosts, and anybody may ask.
    reason = f"no good answer within {PROBE_SECONDS:g} s from: {', '.join(silent)}"
    return {"status": "unavailable", **answers, "reason": reason}, 503
