"""/api/campaigns: write them, see them as a subscriber would, try them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, NotRequired, TypedDict

from flask import Blueprint

from app.campaigns import authoring, lifecycle
from app.campaigns.authoring import Content, check, content_of
from app.campaigns.lifecycle import Draft, find_campaign
from app.campaigns.preview import FIRST, Preview, preview
from app.campaigns.trial import Accepted, send_test
from app.instants import iso
from app.web.access import needs, takes_up_to
from app.web.audit import leave_out, tell
from app.web.body import json_object
from app.web.campaigns import LARGEST_ID
from app.web.errors import Problem
from app.web.openapi import describes
from app.web.query import text
from app.web.resources import resources
from app.web.schemas import Words, record
from app.web.sending import Scheduled

routes = Blueprint("authoring", __name__, url_prefix="/api/campaigns")

#: Two parts of 1 MB each, in which every sign may be written as six.
LONGEST_CONTENT = 14 * 1024 * 1024
LONGEST_ADDRESS = 320

ONE = f"/<int(max={LARGEST_ID}):campaign_id>"

Names = list[str]
Name = Annotated[str, {"minLength": 1, "maxLength": lifecycle.LONGEST_NAME}]
_OPTIONAL: dict[str, Any] = {
    "servers": NotRequired[Names],
    "html": NotRequired[str | None],
    "text": NotRequired[str | None],
    "weight": NotRequired[Annotated[int, {"minimum": 1, "maximum": lifecycle.HEAVIEST}]],
}
_NEEDED: dict[str, Any] = {
    "name": Name, "subject": Words, "from": Annotated[Words, {"maxLength": lifecycle.LONGEST_SENDER}],
    "lists": Annotated[Names, {"minItems": 1}],
}  # fmt: skip

_ALL_OPTIONAL = {name: NotRequired[kind] for name, kind in _NEEDED.items()} | _OPTIONAL
NewCampaign = record(
    "NewCampaign", "Lists and SMTP servers by name; no server: all there are. `weight`: its share beside others.",
    {**_NEEDED, **_OPTIONAL},
)  # fmt: skip
Changes = record(
    "Changes", "What is to be otherwise. `version`: what the caller has seen; a newer one is not overwritten.",
    {**_ALL_OPTIONAL, "version": NotRequired[str]},
)  # fmt: skip
Unsaved = record(
    "Unsaved", "A campaign that nobody stores, and whose mail is wanted: `email` is first, random or an address.",
    {**_NEEDED, **_OPTIONAL, "email": NotRequired[str]},
)  # fmt: skip
ContentDocument = record(
    "ContentDocument", "What a person has said of a campaign. `changes`: whether it may still be changed.",
    {
        "id": int, "status": str, **_NEEDED, "servers": Names, "html": str | None, "text": str | None, "weight": int,
        "scheduled_at": str | None, "changes": bool, "version": str,
    },
)  # fmt: skip


class Deleted(TypedDict):
    id: int
    deleted: bool


class CopyName(TypedDict):
    """Without a name, or with an empty one, it is called as the first one is."""

    name: NotRequired[Annotated[str, {"maxLength": lifecycle.LONGEST_NAME}]]


class TestMail(TypedDict):
    """`email`: as whom it is filled in, first, random or an address; `server`: by name one of the campaign's."""

    to: Words
    email: NotRequired[str]
    server: NotRequired[str]


class Header(TypedDict):
    name: str
    value: str


class PreviewDocument(TypedDict):
    """One mail as it would be sent. `size` in bytes, all of it."""

    subscriber_id: int
    email: str
    name: str
    subject: str
    html: str | None
    text: str | None
    headers: list[Header]
    size: int


@routes.post("")
@needs("send")
@takes_up_to(LONGEST_CONTENT)
@describes("Store a new campaign as a draft", ContentDocument, takes=NewCampaign, status=201)
def new() -> tuple[dict[str, Any], int]:
    db = resources().db
    campaign_id = authoring.create(db, draft_of(_body(*_NEEDED, *_OPTIONAL)), db.now_ms())
    tell(f"campaign {campaign_id}")
    return _content(content_of(db, campaign_id)), 201


@routes.get(f"{ONE}/content")
@describes("What a person has said of a campaign", ContentDocument)
def content(campaign_id: int) -> dict[str, Any]:
    return _content(content_of(resources().db, campaign_id))


@routes.put(ONE)
@needs("send")
@takes_up_to(LONGEST_CONTENT)
@describes("Change a draft or a scheduled campaign; what is left out stays", ContentDocument, takes=Changes)
def change(campaign_id: int) -> dict[str, Any]:
    body = _body(*_NEEDED, *_OPTIONAL, "version")
    version = body.pop("version", None)
    changed = authoring.change(resources().db, campaign_id, body, version)
    tell(", ".join(sorted(body)))
    return _content(changed)


@routes.delete(ONE)
@needs("send")
@describes("Throw a draft away", Deleted)
def delete(campaign_id: int) -> dict[str, Any]:
    authoring.delete(resources().db, campaign_id)
    return {"id": campaign_id, "deleted": True}


@routes.post(f"{ONE}/copy")
@needs("send")
@describes("A new draft like this campaign", ContentDocument, takes=CopyName, status=201)
def copy(campaign_id: int) -> tuple[dict[str, Any], int]:
    name = _body("name").get("name")
    return _content(content_of(resources().db, copied(campaign_id, name))), 201


@routes.post(f"{ONE}/unschedule")
@needs("send")
@describes("Make a draft again of a scheduled campaign", Scheduled)
def unschedule(campaign_id: int) -> dict[str, Any]:
    authoring.unschedule(resources().db, campaign_id)
    return {"id": campaign_id, "status": find_campaign(campaign_id).status, "scheduled_at": None}


@routes.get(f"{ONE}/preview")
@describes(
    "The mail of a campaign as one of its subscribers would get it", PreviewDocument,
    query={"email": {"type": "string", "maxLength": LONGEST_ADDRESS, "description": "first, random or an address"}},
)  # fmt: skip
def shown(campaign_id: int) -> dict[str, Any]:
    db, stored = resources().db, find_campaign(campaign_id)
    checked = check(db, content_of(db, campaign_id).draft)
    return _preview(preview(db, checked, text("email", LONGEST_ADDRESS) or FIRST, like=stored))


@routes.post("/preview")
@needs("send")
@takes_up_to(LONGEST_CONTENT)
@describes("The same of a campaign that is not stored", PreviewDocument, takes=Unsaved)
def unsaved() -> dict[str, Any]:
    body = _body(*_NEEDED, *_OPTIONAL, "email")
    email = body.pop("email", "")
    db = resources().db
    leave_out()
    return _preview(preview(db, check(db, draft_of(body)), email or FIRST))


@routes.post(f"{ONE}/test")
@needs("send")
@describes("Send one mail of the campaign to an address, marked as a test", Accepted, takes=TestMail)
def test(campaign_id: int) -> dict[str, Any]:
    body = _body("to", "email", "server")
    return asdict(tried(campaign_id, body.get("to", ""), body.get("email", ""), body.get("server", "")))


def draft_of(said: dict[str, Any]) -> Draft:
    """A draft of what was said under the names of a Draft; raises Problem for what is missing."""
    for name in _NEEDED:
        if authoring.field_of(name) not in said:
            raise Problem(400, "invalid", f"{name} is missing", name)
    return Draft(**said)


def copied(campaign_id: int, name: str | None) -> int:
    """The id of a copy, which is called so, or like the original; raises as `authoring.copy` does."""
    db = resources().db
    copy_id = authoring.copy(db, campaign_id, name or f"{find_campaign(campaign_id).name[:190]} (2)", db.now_ms())
    tell(f"campaign {copy_id}")
    return copy_id


def tried(campaign_id: int, to: str, email: str, server: str) -> Accepted:
    """Send a test mail; raises as `send_test` does."""
    here = resources()
    find_campaign(campaign_id)
    checked = check(here.db, content_of(here.db, campaign_id).draft)
    done = send_test(here.db, here.redis, campaign_id, checked, to, who=email or FIRST, server=server)
    tell(f"to {done.to} over {done.server}")
    return done


_TEXT = ("text", lambda value: isinstance(value, str))
_PART = ("text, or null for none", lambda value: value is None or isinstance(value, str))
_LIST = ("a list of names", lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value))
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "lists": _LIST, "servers": _LIST, "html": _PART, "text": _PART,
    "weight": ("a whole number", lambda value: type(value) is int),
}  # fmt: skip


def _body(*known: str) -> dict[str, Any]:
    """The request's fields under the names of a Draft, each of its kind; raises Problem."""
    said = json_object(*known)
    for name, value in said.items():
        kind, fits = _KINDS.get(name, _TEXT)
        if not fits(value):
            raise Problem(400, "invalid", f"{name} must be {kind}", name)
    return {authoring.field_of(name): value for name, value in said.items()}


def _content(found: Content) -> dict[str, Any]:
    draft = found.draft
    return {
        "id": found.id, "status": found.status, "name": draft.name, "subject": draft.subject, "from": draft.sender,
        "lists": list(draft.lists), "servers": list(draft.servers), "html": draft.html, "text": draft.text,
        "weight": draft.weight, "scheduled_at": iso(found.scheduled_at), "changes": found.changes,
        "version": found.version,
    }  # fmt: skip


def _preview(found: Preview) -> dict[str, Any]:
    headers = [{"name": name, "value": value} for name, value in found.headers]
    return {**asdict(found), "headers": headers}
