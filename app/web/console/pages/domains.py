"""Limits for mails to a domain, at each server; the rules that are shipped."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, request

from app.mail.limits.domains import LONGEST_LIMIT, list_rules
from app.mail.server_fields import LIMITS
from app.web.console.page import Page, render
from app.web.domains import LONGEST_DOMAIN, document, ruled, shipped, taken, unruled
from app.web.errors import Problem
from app.web.fields import NUMBER_OR_NONE, check_kinds, filled_in
from app.web.query import text
from app.web.resources import resources

page = Page("domains", nav=("send", 60))


@page.get("/domains")
def look() -> dict[str, Any]:
    """`?domain=`: the form has its rule in it."""
    rules = [document(rule) for rule in list_rules(resources().db)]
    chosen = text("domain", LONGEST_DOMAIN)
    given = next((rule for rule in rules if rule["domain"] == chosen), None)
    known = {rule["domain"] for rule in rules}
    return {
        "rules": rules,
        "shipped": [rule for rule in map(document, shipped()) if rule["domain"] not in known],
        "limits": LIMITS,
        "most": LONGEST_LIMIT,
        "longest": LONGEST_DOMAIN,
        "given": {"domain": given["domain"], **given["limits"]} if given else {},
    }


@page.post("/domains/set")
def save() -> Response:
    domain = request.form.get("domain", "").strip()
    said = {name: filled_in(request.form.get(name, ""), number=True) for name in LIMITS}
    try:
        check_kinds(said, dict.fromkeys(LIMITS, NUMBER_OR_NONE))
        rule = ruled(domain, said)  # type: ignore[arg-type]
    except Problem as problem:
        shown = {**look(), "given": request.form}
        drawn = render("domains.html", **shown, wrong={problem.field or "": str(problem)}, page_name=page.name)
        return make_response(drawn, problem.status)
    return page.done("/domains", "domains.was_set", name=rule.domain)


@page.post("/domains/remove")
def remove() -> Response:
    return page.done("/domains", "domains.was_removed", name=unruled(request.form.get("domain", "")))


@page.post("/domains/defaults")
def defaults() -> Response:
    return page.done("/domains", "domains.were_added", n=len(taken()))
