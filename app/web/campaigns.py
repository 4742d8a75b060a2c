"""GET /api/campaigns: how far every campaign is, and one of them with its queue and workers."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from app.campaigns.look import look_at, progress_document
from app.campaigns.progress import progress_of
from app.models.tables import Campaign
from app.web.errors import Problem
from app.web.resources import resources

routes = Blueprint("campaigns", __name__, url_prefix="/api/campaigns")

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
    return jsonify([progress_document(progress_of(db, campaign, now)) for campaign in chosen])


@routes.get(f"/<int(max={LARGEST_ID}):campaign_id>")
def one(campaign_id: int) -> dict[str, object]:
    here = resources()
    return look_at(here.db, here.redis, campaign_id).document()


def _whole(name: str, default: int, high: int) -> int:
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= high):
        raise Problem(400, "invalid", f"{name} must be a whole number from 1 to {high}", name)
    return int(text)
