"""/api/hosts: which hosts have mails in hand, and what to say when one will never come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

from flask import Blueprint, Response, jsonify

from app.campaigns.hosts import HostLeases, hosts_at_work, settle_dead_host
from app.campaigns.journal import host_name
from app.db.connection import DatabaseTrouble
from app.instants import iso
from app.web.audit import tell
from app.web.openapi import describes
from app.web.resources import resources

routes = Blueprint("hosts", __name__, url_prefix="/api/hosts")

LONGEST_NAME = 255


class HostDocument(TypedDict):
    """`lease_until`: when the last of its leases runs out or ran out; long ago: it is silent."""

    host: str
    leases: int
    mails: int
    lease_until: str


class GoneHost(TypedDict):
    """`unknown`: mails that it had in hand, of which nobody can tell any more whether they went out."""

    host: str
    unknown: int


@routes.get("")
@describes("Every host with mails in hand", list[HostDocument])
def every() -> Response:
    found = hosts_at_work(resources().db)
    return jsonify([{**vars(one), "lease_until": iso(one.lease_until)} for one in found])


@routes.post("/<host>/gone")
@describes("Say that a host is dead for good: what it had in hand becomes unknown at once", GoneHost)
def gone(host: str) -> dict[str, Any]:
    """Refused while it renews its leases, and for the host that answers, which settles its own by itself."""
    return {"host": host, "unknown": settled(host)}


@dataclass(frozen=True)
class Seen:
    """A host as the page shows it. `is_silent`: its leases ran out; `may_go`: a person may say that it is dead."""

    host: HostLeases
    is_silent: bool
    may_go: bool


def seen() -> list[Seen]:
    """Those with mails in hand; none while the database is away, which the page says anyway."""
    db = resources().db
    try:
        now = db.now_ms()
        found = [(one, one.lease_until < now) for one in hosts_at_work(db)]
    except DatabaseTrouble:
        return []
    return [Seen(one, is_silent, is_silent and one.host != host_name()) for one, is_silent in found]


def settled(host: str) -> int:
    """How many mails are unknown now; raises NotFound or Refused."""
    db = resources().db
    unknown = settle_dead_host(db, host[:LONGEST_NAME], db.now_ms())
    tell(f"{unknown} mails unknown")
    return unknown
