"""One target of a user: how it stands and has stood; a new one."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, request

from app.schedules.checks.board import Line
from app.schedules.checks.document import target_document
from app.schedules.checks.history import outages, recent, uptime
from app.schedules.checks.store import MOST_TARGETS, find_target, targets_of
from app.schedules.checks.target import KINDS, LONGEST_KEYWORD, LONGEST_NAME, LONGEST_WEBHOOK, NUMBERS
from app.schedules.store import show_schedule
from app.web.campaigns import LARGEST_ID
from app.web.console.page import Page, render
from app.web.console.pages.schedule import PATH, switched_to
from app.web.errors import Problem
from app.web.latencies import hours_of
from app.web.query import one_of
from app.web.resources import resources
from app.web.targets import added, removed, switched

page = Page("target", under="schedules")

NEW = f"{PATH}/targets/new"
ONE = f"{PATH}/targets/<int(max={LARGEST_ID}):target_id>"
#: Days in the strip; spans of which the uptime is told.
DAYS = 90
SPANS = (1, 7, 30, 90)
RESULTS = 15
OUTAGES = 10

#: What the form asks for, by kind. Blanks at the ends may be meant in a text that is looked for.
TEXTS = ("keyword", "not_keyword")
FORMS = {
    "http": ("url", "name", "expect_status", "keyword", "not_keyword", "redirects"),
    "tcp": ("host", "port", "name", "keyword"),
}
FOR_BOTH = ("timeout_seconds", "confirmations", "webhook")
WHOLE = ("port", *NUMBERS)


@page.live(ONE)
def look(user_id: int, target_id: int) -> dict[str, Any]:
    db = resources().db
    now, shown = db.now_ms(), show_schedule(user_id)
    target = find_target(db, target_id, shown.user.id)
    days = uptime(db, target.id, DAYS, now=now)
    return {
        "user": shown.user,
        "checks_on": bool(shown.schedule.enabled),
        "target": target,
        "document": target_document(target),
        "days": days,
        "spans": [(span, Line(target, days[-span:])) for span in SPANS],
        "hours": hours_of(shown.schedule),
        "outages": outages(db, target.id, OUTAGES),
        "results": recent(db, target.id, RESULTS),
    }


@page.get(NEW, template="target_new")
def form(user_id: int) -> dict[str, Any]:
    return _form(user_id, one_of("kind", KINDS, KINDS[0]))


@page.post(NEW)
def new(user_id: int) -> Response:
    kind = request.form.get("kind", "")
    if kind not in KINDS:
        raise Problem(400, "invalid", f"kind={kind!r} is not possible: {' or '.join(KINDS)}", "kind")
    show_schedule(user_id)
    try:
        target = added(user_id, _given(kind))
    except Problem as problem:
        drawn = render(
            "target_new.html", user_id=user_id, **_form(user_id, kind), given=request.form,
            wrong={problem.field or "": str(problem)}, page_name=page.name,
        )  # fmt: skip
        return make_response(drawn, problem.status)
    return page.done(f"/schedules/{user_id}", "target.was_added", name=target.wanted.name)


@page.post(f"{ONE}/switch")
def switch(user_id: int, target_id: int) -> Response:
    """`stay`: on the page of the target, where the button may be too."""
    on = switched_to(request.form.get("enabled", ""))
    switched(user_id, target_id, on)
    path = f"/schedules/{user_id}/targets/{target_id}" if request.form.get("stay") else f"/schedules/{user_id}"
    return page.done(path, "target.was_on" if on else "target.was_off", name=_name(target_id))


@page.post(f"{ONE}/remove")
def remove(user_id: int, target_id: int) -> Response:
    name = find_target(resources().db, target_id, user_id).wanted.name
    removed(user_id, target_id)
    return page.done(f"/schedules/{user_id}", "target.was_removed", name=name)


def _name(target_id: int) -> str:
    return find_target(resources().db, target_id).wanted.name


def _form(user_id: int, kind: str) -> dict[str, Any]:
    shown = show_schedule(user_id)
    return {
        "user": shown.user,
        "kind": kind,
        "kinds": KINDS,
        "fields": FORMS[kind],
        "numbers": NUMBERS,
        "longest": {"name": LONGEST_NAME, "webhook": LONGEST_WEBHOOK, **dict.fromkeys(TEXTS, LONGEST_KEYWORD)},
        "every": shown.schedule.interval_minutes,
        "checks_on": bool(shown.schedule.enabled),
        "full": len(targets_of(resources().db, shown.user.id)) >= MOST_TARGETS,
        "most": MOST_TARGETS,
    }


def _given(kind: str) -> dict[str, Any]:
    """The fields of the form that somebody filled in, as the API takes them."""
    found: dict[str, Any] = {"kind": kind}
    for name in (*FORMS[kind], *FOR_BOTH):
        text = request.form.get(name, "")
        if not text.strip():
            continue
        text = text if name in TEXTS else text.strip()
        is_number = name in WHOLE and text.isascii() and text.isdigit() and len(text) < 10
        found[name] = int(text) if is_number else text
    return found
