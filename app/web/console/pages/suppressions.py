"""Addresses and whole domains that are never mailed: found, added, removed, and files of them."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, request

from app.errors import NotFound
from app.lists.import_kinds import NO_LIST
from app.lists.jobs import imports
from app.lists.rules import search_rules
from app.lists.suppressing import LONGEST_REASON
from app.models.states import RuleKind
from app.web import uploads
from app.web.access import takes_up_to
from app.web.console.page import Page, render
from app.web.console.pages.lists import ENCODINGS
from app.web.errors import Problem
from app.web.imports import rules_submitted
from app.web.resources import resources
from app.web.suppressions import LONGEST_RULE, added, counted, removed

page = Page("suppressions", nav=("send", 35))

PAGE = 50
#: Imports shown.
NEWEST = 3


@page.live("/suppressions", query=("q", "after"))
def look(q: str = "", after: str = "") -> dict[str, Any]:
    here = resources()
    wanted = q.replace("\0", "").strip()[:LONGEST_RULE]
    found = search_rules(here.db, wanted, limit=PAGE, after=after or None)
    return {
        "q": wanted,
        "rules": found.found,
        "more": found.after,
        "counts": counted(),
        "imports": imports(here.db, NEWEST, None, NO_LIST),
        "encodings": ENCODINGS,
        "most_mb": here.settings.upload_mb,
        "longest": {"rule": LONGEST_RULE, "reason": LONGEST_REASON},
    }


@page.post("/suppressions/add")
def add() -> Response:
    try:
        rule, done = added(request.form.get("rule", ""), request.form.get("reason", ""))
    except Problem as problem:
        return _again(problem, typed=request.form)
    if not done.created:
        return page.done("/suppressions", "suppressions.was_there", rule=str(rule))
    if rule.kind is RuleKind.DOMAIN:
        return page.done("/suppressions", "suppressions.was_opened", rule=str(rule))
    return page.done("/suppressions", "suppressions.was_added", rule=str(rule), n=done.blocked)


@page.post("/suppressions/remove")
def remove() -> Response:
    said = request.form.get("rule", "")
    try:
        rule, done = removed(said)
    except NotFound:
        return page.done("/suppressions", "suppressions.was_gone", rule=said[:LONGEST_RULE])
    return page.done("/suppressions", "suppressions.was_removed", rule=str(rule), n=done.released)


@page.post("/suppressions/import")
@takes_up_to(uploads.most)
def take() -> Response:
    try:
        rules_submitted()
    except Problem as problem:
        if problem.field is None:
            raise
        return _again(problem)
    return page.done("/suppressions", "suppressions.was_taken")


def _again(problem: Problem, **values: Any) -> Response:
    """The page once more, with what was wrong beside its field."""
    drawn = render(
        "suppressions.html", **look(), **values, wrong={problem.field: str(problem)}, live_url="/suppressions/live",
        live_tag="", page_name=page.name,
    )  # fmt: skip
    return make_response(drawn, problem.status)
