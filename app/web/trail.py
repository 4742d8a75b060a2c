"""GET /api/audit: who did what over HTTP."""

from __future__ import annotations

from dataclasses import asdict
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, request

from app.instants import iso
from app.web.access import needs
from app.web.audit import Entry, entries
from app.web.campaigns import LARGEST_ID
from app.web.openapi import PAGED, describes, whole_number
from app.web.query import text, whole
from app.web.resources import resources
from app.web.schemas import like

routes = Blueprint("trail", __name__)

PAGE = 100
LARGEST_PAGE = 1000

EntryDocument = like("AuditEntry", Entry, at=str)


@routes.get("/api/audit")
@needs("admin")
@describes(
    "Who did what, the newest first", list[EntryDocument],  # type: ignore[valid-type]
    query={
        "limit": whole_number(1, LARGEST_PAGE, "how many", PAGE),
        "before": whole_number(1, LARGEST_ID, "only those with a lower id: the next page"),
        "who": {"type": "string", "maxLength": 110},
        "action": {"type": "string", "maxLength": 100, "description": "how the action begins"},
    },
    headers=PAGED,
)  # fmt: skip
def every() -> Response:
    limit, before = whole("limit", PAGE, LARGEST_PAGE), whole("before", LARGEST_ID, LARGEST_ID)
    who, action = text("who", 110), text("action", 100)
    found = entries(resources().db, limit + 1, before, who, action)
    answer = jsonify([{**asdict(entry), "at": iso(entry.at)} for entry in found[:limit]])
    if len(found) > limit:
        asked = {"limit": limit, "before": found[limit - 1].id, "who": who, "action": action}
        query = urlencode({name: value for name, value in asked.items() if value})
        answer.headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return answer
