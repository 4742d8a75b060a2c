"""How many workers there were and why: the manager's decisions, drawn over backlog and workers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Response, make_response, request

from app.scaling.by_hand import Brought
from app.scaling.scale import MOST
from app.web.campaigns import LARGEST_ID
from app.web.console.page import Page, render
from app.web.crew import scaled, wanted
from app.web.errors import Problem
from app.web.fields import NUMBER, NUMBER_OR_NONE, check_kinds, filled_in
from app.web.resources import resources
from app.web.scaling import decisions
from app.web.sights import table

page = Page("scaling", nav=("machine", 40))

PAGE = 40


@page.live("/scaling", query=("queue", "before", "changes"))
def look(queue: str, before: str, changes: str) -> dict[str, Any]:
    names = [one.name for one in table().queues]
    queue = queue if queue in names else "send"
    first = int(before[:18]) if before.isascii() and before.isdigit() else LARGEST_ID
    found = decisions(resources().db, PAGE + 1, first, queue, bool(changes))
    return {
        "queue": queue,
        "names": names,
        "found": found[:PAGE],
        "more": found[PAGE - 1][0] if len(found) > PAGE else None,
        "wanted": wanted(queue),
        "highest": MOST,
    }


@page.post("/scaling/set")
def save() -> Response:
    queue, form = request.form.get("queue", ""), request.form
    try:
        workers, most = (filled_in(form.get(name, ""), number=True) for name in ("workers", "max"))
        check_kinds({"workers": workers, "max": most}, {"workers": NUMBER, "max": NUMBER_OR_NONE})
        done = scaled(queue, workers, most)  # type: ignore[arg-type]
    except Problem as problem:
        drawn = render(
            "scaling.html", **look(queue, "", ""), changes="", given=form, wrong={problem.field or "": str(problem)},
            live_url=f"/scaling/live?queue={quote(queue)}", live_tag="", page_name=page.name,
        )  # fmt: skip
        return make_response(drawn, problem.status)
    return _done(queue, done, "scaling.was_set")


@page.post("/scaling/auto")
def auto() -> Response:
    queue = request.form.get("queue", "")
    return _done(queue, scaled(queue, None, None), "scaling.was_given_back")


def _done(queue: str, done: Brought, word: str) -> Response:
    """To the queue's page, which says what has been done, or what could not be."""
    path = f"/scaling?queue={quote(queue)}"
    if done.moves is None:
        return page.done(path, "scaling.was_kept", queue=queue)
    for slot, reason in done.failures.items():
        return page.done(path, "scaling.failed", slot=slot, reason=reason)
    return page.done(path, word, queue=queue, started=len(done.moves.started), leaving=len(done.moves.leaving))
