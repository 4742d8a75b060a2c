"""GET /api/campaigns: how far every campaign is, and one of them with its queue and workers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify, request

from app.campaigns.boosts import queue_of
from app.campaigns.lifecycle import find_campaign
from app.campaigns.progress import Progress, progress_of
from app.models.tables import Campaign
from app.queues.broker import NAMESPACE, RedisTrouble
from app.web.errors import Problem
from app.web.resources import Resources, resources
from app.workers.heartbeat import live_workers

routes = Blueprint("campaigns", __name__, url_prefix="/api/campaigns")

QUEUE = "send"
PAGE = 100
LARGEST_PAGE = 1000
LARGEST_ID = 2**63 - 1


@routes.get("")
def every() -> Response:
    """The newest first; the next page begins at ?before= the last id of this one."""
    limit, before = _whole("limit", PAGE, LARGEST_PAGE), _whole("before", LARGEST_ID, LARGEST_ID)
    chosen = Campaign.select().where(Campaign.id < before).order_by(Campaign.id.desc()).limit(limit)
    db = resources().db
    now = db.now_ms()
    return jsonify([describe(progress_of(db, campaign, now)) for campaign in chosen])


@routes.get(f"/<int(max={LARGEST_ID}):campaign_id>")
def one(campaign_id: int) -> dict[str, Any]:
    here = resources()
    progress = progress_of(here.db, find_campaign(campaign_id), here.db.now_ms())
    queue, workers = _at_work(here, campaign_id)
    return {**describe(progress), "queue": queue, "workers": workers}


def describe(progress: Progress) -> dict[str, Any]:
    """A campaign as scripts read it."""
    fields = asdict(progress)
    return {"id": fields.pop("campaign_id"), **fields}


def _at_work(here: Resources, campaign_id: int) -> tuple[int | None, int | None]:
    """Tickets that wait and workers that serve them; unknown while Redis does not answer."""
    try:
        serving = {QUEUE, queue_of(campaign_id)}
        workers = sum(not serving.isdisjoint(status.queues) for status in live_workers(here.redis))
        return int(here.redis.llen(f"{NAMESPACE}:{QUEUE}")), workers
    except RedisTrouble:
        return None, None


def _whole(name: str, default: int, high: int) -> int:
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= high):
        raise Problem(400, "invalid", f"{name} must be a whole number from 1 to {high}", name)
    return int(text)
