"""/api/subscribers: find people, see what is known of one, take somebody off."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from flask import Blueprint, Response, jsonify

from app.campaigns.lifecycle import find_campaign
from app.campaigns.why import why
from app.errors import NotFound
from app.instants import iso
from app.lists.history import Event, Person, history, person
from app.lists.memberships import forget, remove, unsubscribe
from app.lists.search import search
from app.lists.suppressing import Wanted, add_rules, release_imported, remove_rule
from app.mail.suppression import parse_rule
from app.web.audit import tell
from app.web.body import json_object
from app.web.campaigns import LARGEST_ID
from app.web.errors import Problem
from app.web.lists import LARGEST_PAGE, LIMIT, LONGEST_PLACE, PAGE, MemberDocument
from app.web.openapi import PAGED, describes, whole_number
from app.web.query import linked, text, whole
from app.web.resources import resources
from app.web.schemas import Words

routes = Blueprint("subscribers", __name__, url_prefix="/api/subscribers")

LONGEST_SEARCH = 320
LONGEST_REASON = 500
BY_HAND = "blocked by hand"


class MembershipDocument(TypedDict):
    list_id: int
    list: str
    status: str
    since: str


class RuleDocument(TypedDict):
    """A rule of suppression: an address, or a domain with an @ before it."""

    rule: str
    reason: str
    since: str


class SubscriberDocument(TypedDict):
    """`status_reason`: why somebody is not mailed. `bounces`: permanent refusals in a row."""

    id: int
    email: str
    name: str
    attributes: dict[str, Any]
    status: str
    status_reason: str | None
    bounces: int
    suppressed_by: RuleDocument | None
    created_at: str
    updated_at: str
    memberships: list[MembershipDocument]


class EventDocument(TypedDict):
    """What became of somebody in a campaign."""

    campaign_id: int
    campaign: str
    campaign_status: str
    state: str
    reason: str | None
    attempts: int
    server: str | None
    tried_at: str | None


class FromList(TypedDict):
    """The name of a list."""

    list: Words


class Reason(TypedDict):
    reason: NotRequired[str]


class WhyDocument(TypedDict):
    """`state`: that of the recipient, null for somebody who is none."""

    email: str
    state: str | None
    sentence: str


ONE = f"/<int(max={LARGEST_ID}):subscriber_id>"


@routes.get("")
@describes(
    "Find subscribers by the beginning of address or name, or of a later word of the name", list[MemberDocument],
    query={
        "q": {"type": "string", "maxLength": LONGEST_SEARCH, "description": "without it: all, the newest first"},
        "limit": LIMIT,
        "after": {"type": "string", "maxLength": LONGEST_PLACE, "description": "from the Link of the page before"},
    },
    headers=PAGED,
)  # fmt: skip
def find() -> Response:
    wanted, limit = text("q", LONGEST_SEARCH), whole("limit", PAGE, LARGEST_PAGE)
    page = search(resources().db, wanted, limit=limit, after=text("after", LONGEST_PLACE) or None)
    answer = jsonify([{"id": x.id, "email": x.email, "name": x.name, "status": x.status} for x in page.found])
    return linked(answer, q=wanted or None, limit=limit, after=page.after)


@routes.get(ONE)
@describes("All that is known of one subscriber", SubscriberDocument)
def one(subscriber_id: int) -> dict[str, Any]:
    return _document(person(resources().db, subscriber_id))


@routes.get(f"{ONE}/history")
@describes(
    "What became of somebody in every campaign, the newest first", list[EventDocument],
    query={"limit": LIMIT, "before": whole_number(1, LARGEST_ID, "only campaigns with a lower id: the next page")},
    headers=PAGED,
)  # fmt: skip
def past(subscriber_id: int) -> Response:
    limit, before = whole("limit", PAGE, LARGEST_PAGE), whole("before", LARGEST_ID, LARGEST_ID)
    db = resources().db
    person(db, subscriber_id)
    found = history(db, subscriber_id, limit + 1, before)
    more = found[limit - 1].campaign_id if len(found) > limit else None
    return linked(jsonify([_event(one) for one in found[:limit]]), limit=limit, before=more)


@routes.get(f"{ONE}/why")
@describes(
    "Why somebody was, or was not, mailed in a campaign: one sentence", WhyDocument,
    query={"campaign": whole_number(1, LARGEST_ID, "the campaign's id; must be there")},
)  # fmt: skip
def reason(subscriber_id: int) -> dict[str, Any]:
    campaign_id = whole("campaign", 0, LARGEST_ID)
    if not campaign_id:
        raise Problem(400, "invalid", "campaign must be the id of a campaign", "campaign")
    db = resources().db
    found = why(db, find_campaign(campaign_id), person(db, subscriber_id).email, db.now_ms())
    return {"email": found.email, "state": found.state, "sentence": found.sentence}


@routes.post(f"{ONE}/unsubscribe")
@describes("Take somebody off a list for good: no import brings them back", SubscriberDocument, takes=FromList)
def leave(subscriber_id: int) -> dict[str, Any]:
    take_off(subscriber_id, _list_name(), for_good=True)
    return one(subscriber_id)


@routes.post(f"{ONE}/remove")
@describes("Take somebody off a list until an import names them again", SubscriberDocument, takes=FromList)
def take_away(subscriber_id: int) -> dict[str, Any]:
    take_off(subscriber_id, _list_name(), for_good=False)
    return one(subscriber_id)


@routes.post(f"{ONE}/block")
@describes("Never mail this address again, whatever list it is on", SubscriberDocument, takes=Reason)
def suppress(subscriber_id: int) -> dict[str, Any]:
    why_so = json_object("reason").get("reason", "")
    if not isinstance(why_so, str) or len(why_so) > LONGEST_REASON:
        raise Problem(400, "invalid", f"reason must be text of at most {LONGEST_REASON} characters", "reason")
    block(subscriber_id, why_so)
    return one(subscriber_id)


@routes.post(f"{ONE}/unblock")
@describes(
    "Take the rule for this address away; who had bounced or was blocked by an import is mailed again too",
    SubscriberDocument,
)
def allow(subscriber_id: int) -> dict[str, Any]:
    unblock(subscriber_id)
    return one(subscriber_id)


@routes.delete(ONE)
@describes("Forget somebody: off every list, name and attributes deleted", SubscriberDocument)
def delete(subscriber_id: int) -> dict[str, Any]:
    """The address stays as a tombstone, so that who comes back is known to have been mailed; blocks stay too."""
    erase(subscriber_id)
    return one(subscriber_id)


def take_off(subscriber_id: int, name: str, *, for_good: bool) -> None:
    """Raises NotFound or Problem."""
    db = resources().db
    email = person(db, subscriber_id).email
    try:
        if for_good:
            unsubscribe(db, name, email)
        else:
            remove(db, name, email)
    except NotFound as error:
        raise Problem(404, "not_found", str(error), "list") from error
    tell(f"{email} off {name}")


def block(subscriber_id: int, why_so: str) -> None:
    """Raises NotFound."""
    db = resources().db
    email = person(db, subscriber_id).email
    add_rules(db, [Wanted(parse_rule(email), " ".join(why_so.split()) or BY_HAND)])
    tell(email)


def unblock(subscriber_id: int) -> None:
    """Raises NotFound, or Problem while another rule holds."""
    db = resources().db
    email = person(db, subscriber_id).email
    remove_rule(db, parse_rule(email))
    release_imported(db, subscriber_id)
    tell(email)
    left = person(db, subscriber_id).rule
    if left is not None:
        raise Problem(409, "refused", f"{email} is still blocked, by {left}: bin/mailcrew suppress remove {left.rule}")


def erase(subscriber_id: int) -> None:
    """Raises NotFound."""
    db = resources().db
    forget(db, person(db, subscriber_id).email)
    tell("forgotten")


def _list_name() -> str:
    name = json_object("list").get("list")
    if not isinstance(name, str) or not name.strip():
        raise Problem(400, "invalid", "list must be the name of a list", "list")
    return name


def _document(found: Person) -> dict[str, Any]:
    rule = found.rule
    return {
        "id": found.id, "email": found.email, "name": found.name, "attributes": found.attributes,
        "status": found.status, "status_reason": found.status_reason, "bounces": found.bounces,
        "suppressed_by": rule and {"rule": str(rule.rule), "reason": rule.reason, "since": iso(rule.created_at)},
        "created_at": iso(found.created_at), "updated_at": iso(found.updated_at),
        "memberships": [
            {"list_id": m.list_id, "list": m.list, "status": m.status, "since": iso(m.since)} for m in found.memberships
        ],
    }  # fmt: skip


def _event(found: Event) -> dict[str, Any]:
    return {
        "campaign_id": found.campaign_id, "campaign": found.campaign, "campaign_status": found.status,
        "state": found.state, "reason": found.reason, "attempts": found.attempts, "server": found.server,
        "tried_at": iso(found.tried_at),
    }  # fmt: skip
