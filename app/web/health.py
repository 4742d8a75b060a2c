"""GET /api/health: whether this service can work; for load balancers, so without a token."""

from __future__ import annotations

from flask import Blueprint

from app.web.access import open_to_all
from app.web.probes import ask_all
from app.web.resources import resources

PROBE_SECONDS = 2.0

routes = Blueprint("health", __name__)


@routes.get("/api/health")
@open_to_all
def health() -> tuple[dict[str, object], int]:
    answers = ask_all(resources().probes, PROBE_SECONDS)
    good = all(answers.values())
    return {"status": "ok" if good else "unavailable", **answers}, 200 if good else 503
