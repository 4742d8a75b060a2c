"""/api/senders: the addresses that campaigns are sent from; pausing one."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from flask import Blueprint, Response, jsonify

from app.campaigns.halting import InHand, wait_until_quiet_from
from app.mail.senders import Cooldown, SenderView, pause_sender, resume_sender, sender_document, sender_key, senders
from app.web.access import needs
from app.web.audit import tell
from app.web.body import json_object
from app.web.errors import Problem
from app.web.fields import TEXT, TEXT_OR_NONE, check_kinds, fields_named
from app.web.halting import QUIET_SECONDS
from app.web.openapi import describes
from app.web.resources import resources
from app.web.schemas import like

routes = Blueprint("senders", __name__, url_prefix="/api/senders")

LONGEST_REASON = 500
LONGEST_SENDER = 500

CooldownDocument = like("CooldownDocument", Cooldown, until=str)
SenderDocument = like("SenderDocument", SenderView, paused_at=str | None, cooldowns=list[CooldownDocument])  # type: ignore[valid-type]


class Pause(TypedDict):
    """An address, with or without a name before it, and why nothing more is to be sent from it."""

    sender: Annotated[str, {"maxLength": LONGEST_SENDER}]
    reason: NotRequired[Annotated[str | None, {"maxLength": LONGEST_REASON}]]


class Resume(TypedDict):
    sender: Annotated[str, {"maxLength": LONGEST_SENDER}]


class PausedSender(TypedDict):
    """`changed`: whether this call did it. `in_hand`: recipients that workers still have."""

    sender: str
    changed: bool
    in_hand: int


class ResumedSender(TypedDict):
    sender: str
    changed: bool


@routes.get("")
@describes("Addresses that are paused, cooling down at a server, or being sent from", list[SenderDocument])  # type: ignore[valid-type]
def every() -> Response:
    return jsonify([sender_document(one) for one in seen()])


@routes.post("/pause")
@needs("send")
@describes(
    "Send nothing more from an address; 202 while workers still have mails from it in hand", PausedSender,
    also={202: PausedSender}, takes=Pause,
)  # fmt: skip
def pause() -> tuple[dict[str, Any], int]:
    said = _said("sender", "reason")
    sender, changed, left = paused(said["sender"], said.get("reason"))
    return {"sender": sender, "changed": changed, "in_hand": left.recipients}, 202 if left.batches else 200


@routes.post("/resume")
@needs("send")
@describes("Let a paused address go on", ResumedSender, takes=Resume)
def resume() -> dict[str, Any]:
    sender, changed = resumed(_said("sender")["sender"])
    return {"sender": sender, "changed": changed}


def seen() -> list[SenderView]:
    """The senders as they are now; asked for once a second, however many look."""
    here = resources()
    found: list[SenderView] = here.shared("senders").get(None, lambda: senders(here.db))
    return found


def paused(text: str, reason: str | None) -> tuple[str, bool, InHand]:
    """The sender's key, whether this paused it, and what workers still have in hand; raises Problem."""
    db = resources().db
    with fields_named("sender"):
        sender = sender_key(text)
        changed = pause_sender(db, text, reason, db.now_ms())
    tell(sender)
    return sender, changed, wait_until_quiet_from(db, sender, QUIET_SECONDS)


def resumed(text: str) -> tuple[str, bool]:
    """The sender's key, and whether this let it go on; raises Problem."""
    with fields_named("sender"):
        sender, changed = sender_key(text), resume_sender(resources().db, text)
    tell(sender)
    return sender, changed


def _said(*known: str) -> dict[str, Any]:
    said = json_object(*known)
    check_kinds(said, {"sender": TEXT, "reason": TEXT_OR_NONE})
    if "sender" not in said:
        raise Problem(400, "invalid", "sender is missing", "sender")
    return said
