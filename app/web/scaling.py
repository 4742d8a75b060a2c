"""/api/scaling: what the manager decided and why; and as a plot draws it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify

from app.db import Db
from app.instants import iso
from app.scaling.history import Record
from app.web.campaigns import LARGEST_ID
from app.web.openapi import PAGED, describes, whole_number
from app.web.query import linked, text, whole
from app.web.resources import resources
from app.web.schemas import like
from app.web.series import LONGEST_MINUTES, MINUTE_MS, Series, shared_document

routes = Blueprint("scaling", __name__)

PAGE = 100
LARGEST_PAGE = 1000
MOST_POINTS = 1500
LONGEST_NAME = 64

DecisionDocument = like("ScalingDecision", Record, id=int, at=str)

_COLUMNS = "id, at, host, queue, workers, target, backlog, in_flight, oldest_seconds, rate, bound_by, reason"
_QUEUE = {"type": "string", "maxLength": LONGEST_NAME, "description": "only this queue"}


@routes.get("/api/scaling")
@describes(
    "What the manager decided, the newest first", list[DecisionDocument],  # type: ignore[valid-type]
    query={
        "queue": _QUEUE,
        "changes": whole_number(0, 1, "1: only those that changed the number of workers", 0),
        "limit": whole_number(1, LARGEST_PAGE, "how many", PAGE),
        "before": whole_number(1, LARGEST_ID, "only those with a lower id: the next page"),
    },
    headers=PAGED,
)  # fmt: skip
def every() -> Response:
    limit, before = whole("limit", PAGE, LARGEST_PAGE), whole("before", LARGEST_ID, LARGEST_ID)
    queue, changes = text("queue", LONGEST_NAME), whole("changes", 0, 1, 0)
    found = decisions(resources().db, limit + 1, before, queue, bool(changes))
    answer = jsonify([{**asdict(record), "id": id_, "at": iso(record.at)} for id_, record in found[:limit]])
    asked = {"limit": limit, "queue": queue or None, "changes": changes or None}
    return linked(answer, **asked, before=found[limit - 1][0] if len(found) > limit else None)


@routes.get("/api/series/scaling")
@describes(
    "Workers, what was wanted and the backlog of a queue over time, at each decision", Series,
    query={"queue": {**_QUEUE, "default": "send"}, "minutes": whole_number(1, LONGEST_MINUTES, "how far back", 360)},
    also={304: None},
)  # fmt: skip
def plotted() -> Response:
    queue, minutes = text("queue", LONGEST_NAME) or "send", whole("minutes", 360, LONGEST_MINUTES)
    db = resources().db
    return shared_document(f"scaling {minutes} {queue}", lambda: scaling_of(db, queue, minutes))


def decisions(db: Db, limit: int, before: int, queue: str, changes: bool = False) -> list[tuple[int, Record]]:
    """The newest decisions with their ids; of one queue when it is named, only those that changed something."""
    which, values = ("AND queue = ? ", [queue]) if queue else ("", [])
    moved = "AND workers <> target " if changes else ""
    rows = db.rows(
        f"SELECT {_COLUMNS} FROM scaling_decisions WHERE id < ? {which}{moved}ORDER BY id DESC LIMIT ?",
        before, *values, limit,
    )  # fmt: skip
    return [(int(row[0]), Record(*row[1:])) for row in rows]


def scaling_of(db: Db, queue: str, minutes: int) -> dict[str, Any]:
    """As `Series`; the steps are those of the decisions, so `step_seconds` is 0."""
    rows = db.rows(
        "SELECT at, workers, target, backlog, rate, reason FROM scaling_decisions WHERE queue = ? AND at >= ? "
        "ORDER BY id DESC LIMIT ?",
        queue, db.now_ms() - minutes * MINUTE_MS, MOST_POINTS,
    )[::-1]  # fmt: skip
    return {
        "step_seconds": 0,
        "notes": [str(row[5]) for row in rows],
        "times": [int(row[0]) // 1000 for row in rows],
        "series": {
            "workers": [int(row[2]) for row in rows], "before": [int(row[1]) for row in rows],
            "backlog": [row[3] for row in rows], "rate": [row[4] for row in rows],
        },
    }  # fmt: skip
