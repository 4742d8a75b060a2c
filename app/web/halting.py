"""POST /api/campaigns/ID/pause, resume and cancel."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from flask import Blueprint

from app.campaigns.cancelling import skip_rest
from app.campaigns.halting import Moved, cancel_campaign, in_hand, pause_campaign, resume_campaign, wait_until_quiet
from app.web.access import needs
from app.web.campaigns import LARGEST_ID
from app.web.openapi import describes
from app.web.resources import resources

routes = Blueprint("halting", __name__, url_prefix=f"/api/campaigns/<int(max={LARGEST_ID}):campaign_id>")

#: How long a request waits for the workers, and how long it goes on skipping, in seconds.
QUIET_SECONDS = 1.5
SKIP_SECONDS = 0.5

Answer = tuple[dict[str, Any], int]


class Halted(TypedDict):
    """`changed`: whether this call did it. `in_hand`: recipients that workers still have, for pause and cancel."""

    id: int
    status: str
    changed: bool
    in_hand: NotRequired[int]


@routes.post("/pause")
@needs("send")
@describes("Pause a campaign; 202 while workers still have mails of it in hand", Halted, also={202: Halted})
def pause(campaign_id: int) -> Answer:
    db = resources().db
    moved = pause_campaign(db, campaign_id)
    wait_until_quiet(db, campaign_id, QUIET_SECONDS)
    return _told(campaign_id, moved)


@routes.post("/resume")
@needs("send")
@describes("Go on with a paused campaign", Halted)
def resume(campaign_id: int) -> Answer:
    db = resources().db
    moved = resume_campaign(db, campaign_id, db.now_ms())
    return {"id": campaign_id, "status": moved.status, "changed": moved.changed}, 200


@routes.post("/cancel")
@needs("send")
@describes("End a campaign for good; who has not got it never will", Halted, also={202: Halted})
def cancel(campaign_id: int) -> Answer:
    db = resources().db
    moved = cancel_campaign(db, campaign_id, db.now_ms())
    skip_rest(db, campaign_id, db.now_ms(), 0)
    wait_until_quiet(db, campaign_id, QUIET_SECONDS)
    skip_rest(db, campaign_id, db.now_ms(), SKIP_SECONDS)
    return _told(campaign_id, moved)


def _told(campaign_id: int, moved: Moved) -> Answer:
    """200 when no server accepts a mail of it any more, 202 while workers have some in hand."""
    left = in_hand(resources().db, campaign_id)
    document = {"id": campaign_id, "status": moved.status, "changed": moved.changed, "in_hand": left.recipients}
    return document, 202 if left.batches else 200
