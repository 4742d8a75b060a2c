"""GET /api/series/…: figures over time, as plots draw them; made once for all who look."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, NotRequired, TypedDict

from flask import Blueprint, Response, g, request

from app.campaigns.delivery_hours import COLUMNS, HOUR_MINUTES, tried
from app.campaigns.lifecycle import find_campaign
from app.db import Db
from app.models.tables import Campaign
from app.web.campaigns import LARGEST_ID
from app.web.openapi import describes, whole_number
from app.web.query import whole
from app.web.resources import resources

routes = Blueprint("series", __name__, url_prefix="/api/series")

MINUTE_MS = 60_000
LONGEST_MINUTES = 31 * 24 * 60
#: A plot has no more points than this: longer times get longer steps.
MOST_POINTS = 360
#: Steps longer than so many minutes are whole hours, which are summed up already: of one campaign they are not.
LONG_STEP = 10


class Series(TypedDict):
    """`times`: seconds since 1970, `step_seconds` apart; each of `series` has a value for each of them.

    A value that was not known is null. `notes`: what was said at each of the times.
    """

    step_seconds: int
    times: list[int]
    series: dict[str, list[float | None]]
    notes: NotRequired[list[str]]


@routes.get("/deliveries")
@describes(
    "What was tried over time, of all campaigns or of one, over all servers or one", Series,
    query={
        "minutes": whole_number(1, LONGEST_MINUTES, "how far back (an hour; one campaign: to its beginning)"),
        "campaign": whole_number(1, LARGEST_ID, "only this campaign"),
        "server": whole_number(1, LARGEST_ID, "only this server, also one that was removed"),
    },
    also={304: None},
)  # fmt: skip
def deliveries() -> Response:
    """What was tried in each step; the present minute is not over yet, so it is left out."""
    minutes, campaign = whole("minutes", 0, LONGEST_MINUTES), whole("campaign", 0, LARGEST_ID)
    server = whole("server", 0, LARGEST_ID)
    db = resources().db

    def made() -> dict[str, Any]:
        found = find_campaign(campaign) if campaign else None
        return deliveries_of(db, *_span(db, minutes, found), campaign, server)

    return shared_document(f"deliveries {minutes} {campaign} {server}", made)


def deliveries_of(db: Db, begin: int, end: int, campaign: int = 0, server: int = 0) -> dict[str, Any]:
    """As `Series`: the mails of each step of the minutes from `begin` to before `end` (minutes since 1970)."""
    step = step_of(end - begin, bool(campaign))
    table, values = "deliveries", tuple[int, ...]()
    if step > LONG_STEP and not campaign:
        table, values = tried(db, begin // step * step, end)
    begin = begin // step * step
    chosen = {name: value for name, value in (("campaign_id", campaign), ("server_id", server)) if value}
    which = "".join(f"AND {name} = ? " for name in chosen)
    sums = ", ".join(f"SUM({kind})" for kind in COLUMNS)
    rows = db.rows(
        f"SELECT minute {db.div} {step} AS step, {sums} FROM {table} WHERE minute >= ? AND minute < ? {which}"
        "GROUP BY step ORDER BY step",
        *values, begin, end, *chosen.values(),
    )  # fmt: skip
    found = {int(row[0]): [int(value) for value in row[1:]] for row in rows}
    steps = range(begin // step, -(-end // step)) if found else range(0)
    nothing = [0] * len(COLUMNS)
    return {
        "step_seconds": step * 60,
        "times": [at * step * 60 for at in steps],
        "series": {kind: [found.get(at, nothing)[number] for at in steps] for number, kind in enumerate(COLUMNS)},
    }


def step_of(minutes: int, of_campaign: bool = False) -> int:
    """How many minutes each point of a plot stands for; where they are long, whole hours, but of one campaign."""
    step = max(1, -(-minutes // MOST_POINTS))
    return -(-step // HOUR_MINUTES) * HOUR_MINUTES if step > LONG_STEP and not of_campaign else step


def step_of_campaign(db: Db, campaign: Campaign) -> int:
    """How many seconds each point of a campaign's plot stands for, from its beginning."""
    begin, end = _span(db, 0, campaign)
    return step_of(end - begin, of_campaign=True) * 60


def _span(db: Db, minutes: int, campaign: Campaign | None) -> tuple[int, int]:
    """From which minute to before which; a campaign that is over has a minute of nothing on both sides."""
    end = db.now_ms() // MINUTE_MS
    if campaign is None or campaign.started_at is None:
        return end - (minutes or 60), end
    if campaign.finished_at is not None:
        end = min(end, campaign.finished_at // MINUTE_MS + 2)
    begin = end - minutes if minutes else campaign.started_at // MINUTE_MS - 1
    return max(min(begin, end - 1), end - LONGEST_MINUTES), end


def shared_document(name: str, make: Callable[[], dict[str, Any]]) -> Response:
    """A JSON document that is made once a second at most, and not sent again to who has it already."""
    g.quiet = True

    def drawn() -> tuple[str, str]:
        text = json.dumps(make())
        return text, hashlib.sha256(text.encode()).hexdigest()[:16]

    text, tag = resources().shared("series").get(name, drawn)
    response = Response(text, mimetype="application/json")
    response.set_etag(tag)
    response.headers["Cache-Control"] = "private, no-cache"
    response.make_conditional(request)
    return response
