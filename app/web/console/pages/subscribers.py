"""Find a subscriber; one person with lists, blocks and everything that became of them."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from app.campaigns.lifecycle import find_campaign
from app.campaigns.why import why
from app.errors import UsageError
from app.lists.history import history, person
from app.lists.search import search
from app.models.states import MembershipStatus, SubscriberStatus
from app.models.tables import Campaign
from app.web.campaigns import LARGEST_ID
from app.web.console.page import Page
from app.web.lists import LONGEST_PLACE
from app.web.query import text, whole
from app.web.resources import resources
from app.web.subscribers import LONGEST_REASON, LONGEST_SEARCH, block, erase, take_off, unblock

page = Page("subscribers", nav=("send", 30))

PAGE = 50
EVENTS = 50
#: Campaigns that may be asked about.
ASKED_ABOUT = 100
ONE = f"/subscribers/<int(max={LARGEST_ID}):subscriber_id>"


@page.get("/subscribers")
def look() -> dict[str, Any]:
    wanted = text("q", LONGEST_SEARCH)
    found = search(resources().db, wanted, limit=PAGE, after=text("after", LONGEST_PLACE) or None)
    return {"q": wanted, "found": found.found, "more": found.after}


@page.get(ONE, template="subscriber")
def one(subscriber_id: int) -> dict[str, Any]:
    db, before, asked = resources().db, whole("before", LARGEST_ID, LARGEST_ID), whole("why", 0, LARGEST_ID)
    found = person(db, subscriber_id)
    events = history(db, subscriber_id, EVENTS + 1, before)
    return {
        "person": found,
        "events": events[:EVENTS],
        "more": events[EVENTS - 1].campaign_id if len(events) > EVENTS else None,
        "answer": why(db, find_campaign(asked), found.email, db.now_ms()).sentence if asked else "",
        "asked": asked,
        "campaigns": list(Campaign.select(Campaign.id, Campaign.name).order_by(Campaign.id.desc()).limit(ASKED_ABOUT)),
        "active": MembershipStatus.ACTIVE.value,
        "deleted": SubscriberStatus.DELETED.value,
        "longest": LONGEST_REASON,
    }


@page.post(f"{ONE}/unsubscribe")
def unsubscribe(subscriber_id: int) -> Response:
    take_off(subscriber_id, request.form.get("list", ""), for_good=True)
    return _back(subscriber_id, "subscribers.was_unsubscribed")


@page.post(f"{ONE}/remove")
def remove(subscriber_id: int) -> Response:
    take_off(subscriber_id, request.form.get("list", ""), for_good=False)
    return _back(subscriber_id, "subscribers.was_removed")


@page.post(f"{ONE}/block")
def suppress(subscriber_id: int) -> Response:
    reason = request.form.get("reason", "")
    if len(reason) > LONGEST_REASON:
        raise UsageError(f"the reason has {len(reason)} characters: {LONGEST_REASON} at most")
    block(subscriber_id, reason)
    return _back(subscriber_id, "subscribers.was_blocked")


@page.post(f"{ONE}/unblock")
def allow(subscriber_id: int) -> Response:
    unblock(subscriber_id)
    return _back(subscriber_id, "subscribers.was_unblocked")


@page.post(f"{ONE}/forget")
def forget(subscriber_id: int) -> Response:
    erase(subscriber_id)
    return _back(subscriber_id, "subscribers.was_forgotten")


def _back(subscriber_id: int, word: str) -> Response:
    return page.done(f"/subscribers/{subscriber_id}", word)
