"""The addresses that campaigns are sent from: which are paused or in trouble, and why; pausing one."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, request

from app.web.console.page import Page, render
from app.web.errors import Problem
from app.web.resources import resources
from app.web.senders import LONGEST_REASON, LONGEST_SENDER, paused, resumed, seen

page = Page("senders", nav=("send", 50))


@page.live("/senders")
def look() -> dict[str, Any]:
    here = resources()
    names = here.db.rows("SELECT DISTINCT LOWER(envelope_sender) FROM campaigns ORDER BY 1")
    return {
        "senders": seen(),
        "now": here.db.now_ms(),
        "known": [str(name) for (name,) in names],
        "longest": {"sender": LONGEST_SENDER, "reason": LONGEST_REASON},
    }


@page.post("/senders/pause", scope="send")
def pause() -> Response:
    sender, reason = request.form.get("sender", ""), request.form.get("reason", "")
    try:
        name, _, left = paused(sender, reason)
    except Problem as problem:
        drawn = render(
            "senders.html", **look(), given=request.form, wrong={problem.field or "": str(problem)},
            live_url="/senders/live", live_tag="", page_name=page.name,
        )  # fmt: skip
        return make_response(drawn, problem.status)
    if left.batches:
        return page.done("/senders", "senders.pausing", name=name, n=left.recipients)
    return page.done("/senders", "senders.was_paused", name=name)


@page.post("/senders/resume", scope="send")
def resume() -> Response:
    name, _ = resumed(request.form.get("sender", ""))
    return page.done("/senders", "senders.was_resumed", name=name)
