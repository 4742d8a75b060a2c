"""/api/domains: limits for mails to a domain, at each server."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from flask import Blueprint, Response, jsonify

from app.mail.limits import DomainRule
from app.mail.limits.domain_defaults import DEFAULTS
from app.mail.limits.domains import LONGEST_LIMIT, domain_name, list_rules, set_rule, unset_rule, use_defaults
from app.mail.server_fields import LIMITS
from app.web.audit import tell
from app.web.body import json_object
from app.web.fields import NUMBER_OR_NONE, check_kinds, fields_named
from app.web.openapi import describes
from app.web.resources import resources

routes = Blueprint("domains", __name__, url_prefix="/api/domains")

#: `*.example.com` is a path like any other.
ONE = "/<domain>"
LONGEST_DOMAIN = 255

Limit = Annotated[int | None, {"minimum": 1, "maximum": LONGEST_LIMIT}]


class DomainLimits(TypedDict):
    per_second: int | None
    per_minute: int | None
    per_hour: int | None
    per_day: int | None


class DomainDocument(TypedDict):
    """A rule holds at each server by itself. `*.example.com`: for all below example.com, which share it."""

    domain: str
    limits: DomainLimits


class NewLimits(TypedDict):
    """One at least; those that are left out are none."""

    per_second: NotRequired[Limit]
    per_minute: NotRequired[Limit]
    per_hour: NotRequired[Limit]
    per_day: NotRequired[Limit]


class RemovedDomain(TypedDict):
    domain: str
    removed: bool


@routes.get("")
@describes("The rules, by domain", list[DomainDocument])
def every() -> Response:
    return jsonify([document(rule) for rule in list_rules(resources().db)])


@routes.get("/defaults")
@describes("The rules that are shipped: cautious ones for the large providers", list[DomainDocument])
def defaults() -> Response:
    return jsonify([document(rule) for rule in shipped()])


@routes.post("/use-defaults")
@describes("Add the shipped rules for domains that have none: those that were added", list[DomainDocument])
def take_defaults() -> Response:
    return jsonify([document(rule) for rule in taken()])


@routes.put(ONE)
@describes("Add the rule of a domain, or replace it", DomainDocument, takes=NewLimits)
def put(domain: str) -> dict[str, Any]:
    said = json_object(*LIMITS)
    check_kinds(said, dict.fromkeys(LIMITS, NUMBER_OR_NONE))
    return document(ruled(domain, said))


@routes.delete(ONE)
@describes("Remove the rule of a domain", RemovedDomain)
def remove(domain: str) -> dict[str, Any]:
    return {"domain": unruled(domain), "removed": True}


def shipped() -> list[DomainRule]:
    """The shipped rules, by domain."""
    return [DomainRule(domain, DEFAULTS[domain]) for domain in sorted(DEFAULTS)]


def taken() -> list[DomainRule]:
    """The shipped rules that were added."""
    db = resources().db
    added = use_defaults(db, now=db.now_ms())
    tell(f"{len(added)} rules")
    return added


def ruled(domain: str, limits: dict[str, int | None]) -> DomainRule:
    """Set the rule of a domain; raises Problem."""
    db = resources().db
    with fields_named("domain"):
        rule = set_rule(db, domain[:LONGEST_DOMAIN], now=db.now_ms(), **limits)
    tell(", ".join(f"{name} {value}" for name, value in document(rule)["limits"].items() if value))
    return rule


def unruled(domain: str) -> str:
    """The name of the rule that is gone; raises NotFound or Problem."""
    db = resources().db
    with fields_named("domain"):
        unset_rule(db, domain, now=db.now_ms())
        return domain_name(domain)


def document(rule: DomainRule) -> dict[str, Any]:
    """A rule as scripts read it."""
    return {"domain": rule.domain, "limits": {f"per_{window}": limit for window, limit in rule.limits}}
