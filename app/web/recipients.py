"""/api/campaigns/ID/recipients and what became of them: searched, counted by reply and by server, decided."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal, TypedDict
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, request

from app.campaigns.domain_shares import DomainShare
from app.campaigns.lifecycle import find_campaign
from app.campaigns.recipient_pages import SHOWN_STATES, Found, recipients_page
from app.campaigns.told import Reply, Share, replies_of, shares_of
from app.campaigns.unknown import resend_unknown, settle_unknown
from app.instants import iso
from app.web.access import needs
from app.web.body import json_object
from app.web.campaigns import LARGEST_ID
from app.web.errors import Problem
from app.web.openapi import PAGED, describes, whole_number
from app.web.query import one_of, text, whole
from app.web.resources import resources

routes = Blueprint("recipients", __name__, url_prefix=f"/api/campaigns/<int(max={LARGEST_ID}):campaign_id>")

PAGE = 100
LARGEST_PAGE = 1000
#: A script may wait so long for a campaign to be counted, in seconds.
COUNT_SECONDS = 1.0


class RecipientDocument(TypedDict):
    subscriber_id: int
    email: str
    state: str
    reason: str | None
    attempts: int
    server: str | None
    tried_at: str | None


class Replies(TypedDict):
    """`newest_only`: there are many, and only the newest were counted."""

    replies: list[Reply]
    newest_only: bool


class DomainsDocument(TypedDict):
    """`domains`: the largest first; `others`: the rest together. `counted` of the `decided` recipients are in them.

    Decided are those of batches that are over: a mail that is tried again later keeps its batch open.
    """

    domains: list[DomainShare]
    others: DomainShare
    counted: int
    decided: int
    complete: bool


class Decision(TypedDict):
    """`resend`: send the unknown ones again; `settle`: take them as delivered."""

    action: Literal["resend", "settle"]


class Decided(TypedDict):
    """`in_hand`: those that workers still have; they can be decided later."""

    decided: int
    in_hand: int


@routes.get("/recipients")
@describes(
    "The recipients, by state or by the beginning of their address", list[RecipientDocument],
    query={
        "limit": whole_number(1, LARGEST_PAGE, "how many", PAGE),
        "state": {"enum": list(map(str, SHOWN_STATES))},
        "email": {"type": "string", "maxLength": 320, "description": "how the address begins"},
        "after": {"type": "string", "description": "where this page begins: from the Link of the page before"},
    },
    headers=PAGED,
)  # fmt: skip
def recipients(campaign_id: int) -> Response:
    limit, state = whole("limit", PAGE, LARGEST_PAGE), one_of("state", SHOWN_STATES)
    begins, after = text("email", 320), text("after", 400)
    campaign = find_campaign(campaign_id)
    found, more = recipients_page(resources().db, campaign, limit, state=state, begins=begins, after=after)
    answer = jsonify([_document(one) for one in found])
    if more:
        asked = {"limit": limit, "state": state, "email": begins, "after": more}
        query = urlencode({name: value for name, value in asked.items() if value})
        answer.headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return answer


@routes.get("/replies")
@describes("Why mails failed, were skipped or are unknown, the commonest reasons first", Replies)
def replies(campaign_id: int) -> dict[str, Any]:
    find_campaign(campaign_id)
    found, newest_only = replies_of(resources().db, campaign_id)
    return {"replies": [asdict(reply) for reply in found], "newest_only": newest_only}


@routes.get("/servers")
@describes("What each server did for the campaign", list[Share])
def servers(campaign_id: int) -> Response:
    find_campaign(campaign_id)
    return jsonify([asdict(share) for share in shares_of(resources().db, campaign_id)])


@routes.get("/domains")
@describes("What became of its mails by recipient domain, counted while one asks", DomainsDocument)
def domains(campaign_id: int) -> dict[str, Any]:
    """The largest domains one by one; asked again it has counted on, until `complete`."""
    find_campaign(campaign_id)
    found = resources().domains.look(campaign_id, COUNT_SECONDS)
    return {
        "domains": [asdict(one) for one in found.domains], "others": asdict(found.others), "counted": found.counted,
        "decided": found.decided, "complete": found.is_complete,
    }  # fmt: skip


@routes.post("/unknown")
@needs("send")
@describes("Decide about mails of which nobody knows whether they arrived", Decided, takes=Decision)
def unknown(campaign_id: int) -> dict[str, Any]:
    action = json_object("action").get("action")
    if action not in ("resend", "settle"):
        raise Problem(400, "invalid", "action must be resend or settle", "action")
    campaign, db = find_campaign(campaign_id), resources().db
    return asdict(resend_unknown(db, campaign) if action == "resend" else settle_unknown(db, campaign))


def _document(one: Found) -> dict[str, Any]:
    fields = asdict(one)
    fields.pop("place")
    return {**fields, "tried_at": iso(one.tried_at)}
