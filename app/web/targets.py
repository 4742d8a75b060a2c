"""/api/schedules/USER/targets: what is checked for a user, and how it has been."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, TypedDict

from flask import Blueprint, Response, jsonify, request

from app.addresses import Networks
from app.errors import AddressRefused, Refused
from app.events import emit
from app.schedules.checks.document import HistoryDocument, TargetDocument, history_document, target_document
from app.schedules.checks.store import Target, add_target, find_target, remove_target, switch_target, targets_of
from app.schedules.checks.target import FIELDS, KINDS, LONGEST_KEYWORD, LONGEST_NAME, NUMBERS, BadField, wanted
from app.schedules.users import find_or_add_user, find_user
from app.web.audit import tell
from app.web.body import json_object
from app.web.errors import Problem
from app.web.openapi import describes, whole_number
from app.web.query import whole
from app.web.resources import resources

routes = Blueprint("targets", __name__, url_prefix="/api/schedules/<user>/targets")

LARGEST_ID = 2**63 - 1
ONE = f"/<int(max={LARGEST_ID}):target_id>"
DAYS = 90
MOST_DAYS = 400


def _range(name: str) -> dict[str, Any]:
    default, least, most, _ = NUMBERS[name]
    return {"minimum": least, "maximum": most, "default": default}


class NewTarget(TypedDict):
    """What to check. `url` for http, `host` and `port` for tcp; `keyword`: text that must be there."""

    kind: Annotated[str, {"enum": list(KINDS)}]
    name: NotRequired[Annotated[str, {"maxLength": LONGEST_NAME}]]
    url: NotRequired[str]
    host: NotRequired[str]
    port: NotRequired[Annotated[int, {"minimum": 1, "maximum": 65535}]]
    expect_status: NotRequired[Annotated[str, {"default": "200-399"}]]
    keyword: NotRequired[Annotated[str, {"maxLength": LONGEST_KEYWORD}]]
    not_keyword: NotRequired[Annotated[str, {"maxLength": LONGEST_KEYWORD}]]
    redirects: NotRequired[Annotated[int, _range("redirects")]]
    timeout_seconds: NotRequired[Annotated[int, _range("timeout_seconds")]]
    confirmations: NotRequired[Annotated[int, _range("confirmations")]]
    webhook: NotRequired[str]
    enabled: NotRequired[bool]


class Switch(TypedDict):
    """Whether it is checked."""

    enabled: bool


class Removed(TypedDict):
    """The id of the target that is gone."""

    removed: int


@routes.get("")
@describes("The targets of a user, by name", list[TargetDocument])
def every(user: str) -> Response:
    return jsonify([target_document(one) for one in targets_of(resources().db, find_user(user).id)])


@routes.post("")
@describes("Have something checked; a new address makes the user", TargetDocument, status=201, takes=NewTarget)
def add(user: str) -> tuple[Response, int]:
    return jsonify(target_document(added(user, json_object(*FIELDS)))), 201


@routes.delete("")
@describes(
    "Remove a target, with its history", Removed,
    query={"id": whole_number(1, LARGEST_ID, "the target, unless the body names it as {\"id\": N}")},
)  # fmt: skip
def remove_named(user: str) -> dict[str, int]:
    return remove(user, _named())


@routes.get(ONE)
@describes("One target, and how it stands", TargetDocument)
def one(user: str, target_id: int) -> Response:
    return jsonify(target_document(find_target(resources().db, target_id, find_user(user).id)))


@routes.delete(ONE)
@describes("Remove a target, with its history", Removed)
def remove(user: str, target_id: int) -> dict[str, int]:
    removed(user, target_id)
    return {"removed": target_id}


@routes.patch(ONE)
@describes("Check a target again, or not for a while", TargetDocument, takes=Switch)
def switch(user: str, target_id: int) -> Response:
    on = json_object("enabled").get("enabled")
    if not isinstance(on, bool):
        raise Problem(400, "invalid", "enabled must be true or false", "enabled")
    switched(user, target_id, on)
    return jsonify(target_document(find_target(resources().db, target_id)))


@routes.get(f"{ONE}/history")
@describes(
    "Uptime by day, latencies, outages and the last results of a target", HistoryDocument,
    query={"days": whole_number(1, MOST_DAYS, "how far back", DAYS)},
)  # fmt: skip
def history(user: str, target_id: int) -> Response:
    db, days = resources().db, whole("days", DAYS, MOST_DAYS)
    target = find_target(db, target_id, find_user(user).id)
    return jsonify(history_document(db, target.id, days, db.now_ms()))


def added(user: str | int, fields: Mapping[str, Any]) -> Target:
    """Have something checked; raises Problem, which names the field where it is one."""
    here = resources()
    now, allowed = here.db.now_ms(), here.settings.allow_private_addresses
    try:
        described = wanted(fields, allowed)
    except BadField as error:
        raise Problem(400, "invalid", str(error), error.field) from error
    except AddressRefused as error:
        raise Problem(409, "refused", str(error), _refused_field(fields, allowed)) from error
    owner, new = find_or_add_user(here.db, user, here.settings.default_interval_minutes, now)
    try:
        target_id = add_target(here.db, owner.id, described, now)
    except Refused as error:
        is_taken = any(one.wanted.name == described.name for one in targets_of(here.db, owner.id))
        raise Problem(409, "refused", str(error), "name" if is_taken else None) from error
    emit("target added", target=target_id, user=owner.id, name=described.name, new_user=new)
    tell(f"target {target_id} {described.name}")
    return find_target(here.db, target_id)


def _refused_field(fields: Mapping[str, Any], allowed: Networks) -> str:
    """Whose address is not public."""
    try:
        wanted({**fields, "webhook": None}, allowed)
    except AddressRefused:
        return "url" if fields.get("kind") == "http" else "host"
    return "webhook"


def removed(user: str | int, target_id: int) -> None:
    """Remove a target of this user, with its history; raises NotFound."""
    db, owner = resources().db, find_user(user)
    remove_target(db, target_id, db.now_ms(), owner.id)
    emit("target removed", target=target_id, user=owner.id)


def switched(user: str | int, target_id: int, on: bool) -> None:
    """Check a target of this user again, or not for a while; raises NotFound."""
    db, owner = resources().db, find_user(user)
    if switch_target(db, target_id, on, db.now_ms(), owner.id):
        emit("target switched", target=target_id, user=owner.id, enabled=on)


def _named() -> int:
    """The id in ?id= or in the body."""
    if "id" in request.args:
        return whole("id", 0, LARGEST_ID)
    if not request.content_length:
        raise Problem(400, "invalid", "name the target: ?id=N", "id")
    found = json_object("id").get("id")
    if type(found) is not int or not 1 <= found <= LARGEST_ID:
        raise Problem(400, "invalid", "id must be the number of a target", "id")
    return found
