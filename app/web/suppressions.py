"""/api/suppressions: addresses and whole domains that are never mailed."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from flask import Blueprint, Response, jsonify

from app.errors import NotFound
from app.events import warn
from app.instants import iso
from app.lists.rules import count_rules, search_rules
from app.lists.suppressing import LONGEST_REASON, Added, Removed, Wanted, add_rules, remove_rule
from app.mail.suppression import Listed, Rule, parse_rule
from app.models.states import RuleKind
from app.queues.broker import RedisTrouble
from app.queues.put_new import put_new
from app.web import uploads
from app.web.access import takes_up_to
from app.web.audit import tell
from app.web.body import json_object
from app.web.errors import Problem
from app.web.fields import TEXT, TEXT_OR_NONE, check_kinds, fields_named
from app.web.imports import LONGEST_ENCODING, QUEUE, ImportDocument, document, rules_submitted
from app.web.lists import LARGEST_PAGE, LIMIT, LONGEST_PLACE, PAGE
from app.web.openapi import PAGED, describes
from app.web.query import linked, text, whole
from app.web.resources import resources

routes = Blueprint("suppressions", __name__, url_prefix="/api/suppressions")

LONGEST_RULE = 320
BY_HAND = "added by hand"
#: Counting reads an index from end to end, so it is done this often at most, in seconds.
COUNT_SECONDS = 10.0

RULE = {"type": "string", "maxLength": LONGEST_RULE, "description": "an address, or a domain with an @ before it"}


class SuppressionDocument(TypedDict):
    """`opening`: a rule of a domain that holds, and has not reached every subscriber yet."""

    rule: str
    kind: Annotated[str, {"enum": ["address", "domain"]}]
    reason: str
    created_at: str
    opening: bool


class SuppressionCounts(TypedDict):
    addresses: int
    domains: int


class NewRule(TypedDict):
    """An address, or a domain with an @ before it, and why."""

    rule: Annotated[str, {"maxLength": LONGEST_RULE}]
    reason: NotRequired[Annotated[str | None, {"maxLength": LONGEST_REASON}]]


class AddedRule(TypedDict):
    """`blocked`: subscribers who were active until now. A domain's are blocked by a worker, within seconds: then it is
    0, and `opening` says so."""

    rule: str
    kind: str
    created: bool
    blocked: int
    opening: bool


class RemovedRule(TypedDict):
    """`released`: subscribers who are active again."""

    rule: str
    kind: str
    removed: bool
    released: int


@routes.get("")
@describes(
    "Find rules by their beginning; for an address also those of the domains it is in", list[SuppressionDocument],
    query={
        "q": {"type": "string", "maxLength": LONGEST_RULE, "description": "without it: all"}, "limit": LIMIT,
        "after": {"type": "string", "maxLength": LONGEST_PLACE, "description": "from the Link of the page before"},
    },
    headers=PAGED,
)  # fmt: skip
def find() -> Response:
    wanted, limit = text("q", LONGEST_RULE), whole("limit", PAGE, LARGEST_PAGE)
    page = search_rules(resources().db, wanted, limit=limit, after=text("after", LONGEST_PLACE) or None)
    return linked(jsonify([_document(one) for one in page.found]), q=wanted or None, limit=limit, after=page.after)


@routes.get("/count")
@describes("How many rules there are", SuppressionCounts)
def count() -> dict[str, int]:
    return counted()


@routes.post("")
@describes("Mail an address, or a domain with all below it, no more", AddedRule, takes=NewRule, also={201: AddedRule})
def new() -> tuple[dict[str, Any], int]:
    said = json_object("rule", "reason")
    check_kinds(said, {"rule": TEXT, "reason": TEXT_OR_NONE})
    if "rule" not in said:
        raise Problem(400, "invalid", "rule is missing", "rule")
    rule, done = added(said["rule"], said.get("reason") or "")
    is_domain = rule.kind is RuleKind.DOMAIN
    answer = {"rule": str(rule), "kind": rule.kind, "created": done.created == 1, "blocked": done.blocked}
    return {**answer, "opening": is_domain and done.created == 1}, 201 if done.created else 200


@routes.delete("")
@describes(
    "Remove a rule: whom it alone kept from being mailed is mailed again, by address also who has bounced",
    RemovedRule, query={"rule": RULE},
)  # fmt: skip
def delete() -> dict[str, Any]:
    rule, done = removed(text("rule", LONGEST_RULE))
    return {"rule": str(rule), "kind": rule.kind, "removed": done.removed, "released": done.released}


@routes.post("/import")
@takes_up_to(uploads.most)
@describes(
    "Add the rules in a file: one a line, or a CSV whose header says which column holds them", ImportDocument,
    status=202,
    form={
        "file": {"type": "string", "format": "binary", "description": "addresses and @domains"},
        "reason": {"type": "string", "maxLength": LONGEST_REASON, "description": "why, where the file says nothing"},
        "encoding": {"type": "string", "maxLength": LONGEST_ENCODING, "description": "when it is not UTF-8: gb18030 …"},
    },
)  # fmt: skip
def import_file() -> tuple[dict[str, Any], int]:
    """The file is read later, by a worker: ask `/api/imports/ID` how far it is. Its beginning is looked at now."""
    return document(rules_submitted()), 202


def counted() -> dict[str, int]:
    """How many rules there are, counted seldom however many look."""
    here = resources()
    found: dict[str, int] = here.shared("rules", COUNT_SECONDS).get(None, lambda: count_rules(here.db))
    return found


def added(said: str, reason: str) -> tuple[Rule, Added]:
    """Add a rule; raises Problem. A domain's subscribers are left to a worker."""
    here = resources()
    with fields_named("rule"):
        rule = parse_rule(said)
    why = " ".join(reason.split()) or BY_HAND
    if len(why) > LONGEST_REASON:
        raise Problem(400, "invalid", f"reason must be text of at most {LONGEST_REASON} characters", "reason")
    done = add_rules(here.db, [Wanted(rule, why)])
    tell(f"{rule}{'' if done.created else ', which was there already'}")
    if rule.kind is RuleKind.DOMAIN and done.created:
        try:
            put_new(here.redis, QUEUE, "reach_rules", {f"rule-{here.db.now_ms()}-{rule}"[:200]: []})
        except RedisTrouble as error:
            warn("subscribers of the rule are blocked when Redis is back", rule=str(rule), reason=str(error))
    return rule, done


def removed(said: str) -> tuple[Rule, Removed]:
    """Remove a rule; raises Problem, or NotFound when there is none and nobody was blocked by it."""
    with fields_named("rule"):
        rule = parse_rule(said)
    done = remove_rule(resources().db, rule)
    tell(str(rule))
    if not done.removed and not done.released:
        raise NotFound(f"there is no rule {rule}")
    return rule, done


def _document(one: Listed) -> dict[str, Any]:
    return {
        "rule": str(one.rule), "kind": one.rule.kind, "reason": one.reason, "created_at": iso(one.created_at),
        "opening": one.is_opening,
    }  # fmt: skip
