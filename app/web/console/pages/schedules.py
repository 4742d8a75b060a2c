"""All users whose targets are checked: who is due, late, running, failing; found by address; a new one."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import Response, make_response, request

from app.errors import NotFound, UsageError
from app.schedules.dispatch import QUEUE
from app.schedules.search import LATE_MS, LONGEST, STANDINGS, find_schedules, late_ms
from app.schedules.store import show_schedule
from app.schedules.times import LONGEST as LONGEST_INTERVAL
from app.schedules.times import SHORTEST
from app.schedules.users import is_id
from app.web.console.page import Page, render
from app.web.errors import Problem
from app.web.resources import resources
from app.web.schedules import changed, counted, interval
from app.web.sights import sight

page = Page("schedules", nav=("watch", 10))

PAGE = 50


@page.live("/schedules", query=("email", "standing", "after"))
def look(email: str = "", standing: str = "", after: str = "") -> dict[str, Any]:
    db, email = resources().db, email.strip()[:LONGEST]
    now, standing = db.now_ms(), standing if standing in STANDINGS and not email else ""
    found = find_schedules(db, PAGE, now, email=email, standing=standing, after=after)
    asked = {"email": email, "standing": standing, "after": found.after}
    return {
        "now": now,
        "seen": counted(),
        "rows": [(one, late_ms(one.schedule, now)) for one in found.found],
        "more": urlencode({name: value for name, value in asked.items() if value}) if found.after else "",
        "email": email,
        "standing": standing,
        "standings": STANDINGS,
        "late_ms": LATE_MS,
        "abandoned": any(line.abandoned for line in sight().lines if QUEUE in line.queue.queues),
        "every": resources().settings.default_interval_minutes,
        "shortest": SHORTEST,
        "longest": LONGEST_INTERVAL,
    }


@page.post("/schedules/new")
def new() -> Response:
    said, every = request.form.get("new_email", "").strip(), request.form.get("interval_minutes", "")
    try:
        user_id, is_new = _made(said, minutes_of(every))
    except Problem as problem:
        drawn = render(
            "schedules.html", **look(), said_email=said, said_every=every, wrong={problem.field: str(problem)},
            live_url="/schedules/live", live_tag="", page_name=page.name,
        )  # fmt: skip
        return make_response(drawn, problem.status)
    return page.done(f"/schedules/{user_id}", "schedules.was_made" if is_new else "schedules.was_there")


def minutes_of(said: str) -> int:
    """An interval from a form; raises Problem."""
    text = said.strip()
    return interval(int(text) if text.isascii() and text.isdigit() and len(text) < 10 else said)


def _made(email: str, minutes: int) -> tuple[int, bool]:
    """The id of the user with this address, who is as he was if there is one, and whether he is new."""
    if is_id(email):
        raise Problem(400, "invalid", f"email={email!r} is no address: it needs an @, like ann@example.com", "email")
    try:
        return int(show_schedule(email).user.id), False
    except NotFound:
        return int(changed(email, None, minutes)[0].user.id), True
    except UsageError as error:
        raise Problem(400, "invalid", str(error), "email") from error
