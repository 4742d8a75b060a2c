"""POST /api/campaigns/ID/schedule and boost: when it begins, and who works on it alone."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from flask import Blueprint

from app.campaigns.boosts import MOST, check_boost, drop_boost, want_boost
from app.campaigns.lifecycle import find_campaign, schedule_campaign
from app.errors import Unavailable
from app.instants import iso, parse_instant
from app.scaling.boost import boosted_running, bring_boost_to
from app.scaling.demand import look
from app.scaling.scale import Moves
from app.web.access import needs
from app.web.body import json_object
from app.web.campaigns import LARGEST_ID
from app.web.errors import Problem
from app.web.openapi import describes
from app.web.resources import resources
from app.web.sights import table

routes = Blueprint("sending", __name__, url_prefix=f"/api/campaigns/<int(max={LARGEST_ID}):campaign_id>")


class When(TypedDict):
    """`at`: ISO 8601 with a zone; without it, at the next minute."""

    at: NotRequired[str | None]


class Scheduled(TypedDict):
    id: int
    status: str
    scheduled_at: str | None


class Wish(TypedDict):
    """Workers of its own that the campaign is to have in all; 0 takes them away."""

    workers: Annotated[int, {"minimum": 0, "maximum": MOST}]


class Boosted(TypedDict):
    """`running`: those that are up already; the others follow within seconds, or go when they have finished."""

    id: int
    workers: int
    running: int
    started: list[str]
    leaving: list[str]


@routes.post("/schedule")
@needs("send")
@describes("Have a draft sent, now or at a time; a scheduled one moves", Scheduled, takes=When)
def schedule(campaign_id: int) -> dict[str, Any]:
    at = json_object("at").get("at")
    if not isinstance(at, str | None):
        raise Problem(400, "invalid", "at must be a time like 2026-11-23T09:00:00+08:00", "at")
    schedule_at(campaign_id, at)
    campaign = find_campaign(campaign_id)
    return {"id": campaign_id, "status": campaign.status, "scheduled_at": iso(campaign.scheduled_at)}


@routes.post("/boost")
@needs("send")
@describes("Give a sending campaign workers of its own", Boosted, takes=Wish)
def boost(campaign_id: int) -> dict[str, Any]:
    workers = json_object("workers").get("workers")
    if type(workers) is not int or not 0 <= workers <= MOST:
        raise Problem(400, "invalid", f"workers must be a whole number from 0 to {MOST}", "workers")
    moves, running = boost_to(campaign_id, workers)
    return {
        "id": campaign_id, "workers": workers, "running": running,
        "started": list(moves.started), "leaving": list(moves.leaving),
    }  # fmt: skip


def schedule_at(campaign_id: int, at: str | None) -> None:
    """Schedule at an ISO 8601 time, None: now. Raises NotFound, Refused, TemplateProblem or Problem."""
    db = resources().db
    try:
        instant = parse_instant(at, "at") if at else db.now_ms()
    except ValueError as error:  # a year that no clock of ours can tell
        raise Problem(400, "invalid", f"at={at!r} is not a time we can tell ({error})", "at") from None
    schedule_campaign(db, campaign_id, instant, db.now_ms())


def boost_to(campaign_id: int, workers: int) -> tuple[Moves, int]:
    """What was started and sent home, and how many of its own run now; raises as `bring_boost_to` does."""
    here = resources()
    if workers:
        check_boost(here.db, campaign_id, workers)
    else:
        find_campaign(campaign_id)
    seen = look(here.redis, here.db, table())

    def write_down() -> None:
        if workers:
            want_boost(here.db, campaign_id, workers)
        else:
            drop_boost(here.db, campaign_id)

    try:
        moves = bring_boost_to(here.settings, here.root, here.db, campaign_id, workers, seen, write_down)
        return moves, boosted_running(here.settings, here.root, campaign_id)
    except Unavailable:
        if workers:
            raise
        drop_boost(here.db, campaign_id)  # without supervisord there are none; the wish goes too
        return Moves(), 0
