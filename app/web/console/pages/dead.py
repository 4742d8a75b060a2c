"""Tasks that failed for good: found, tried again, deleted; chosen ones or all of a queue."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import Response, request

from app.errors import UsageError
from app.queues.dead_letters import delete, replay
from app.web.audit import tell
from app.web.console.page import Page
from app.web.dead import LONGEST_NAME, MOST_CHOSEN, arguments, chosen, names, settle
from app.web.query import text, whole

page = Page("dead", nav=("machine", 20))

PAGE = 50
ACTS = {"replay": replay, "delete": delete}


@page.get("/dead")
def look() -> dict[str, Any]:
    queue, search, skip = text("queue", LONGEST_NAME), text("search", 100), whole("skip", 0, 1_000_000, 0)
    found, more = chosen(queue, search, PAGE, skip)
    asked = {"queue": queue, "search": search, "skip": skip + PAGE}
    return {
        "letters": [(letter, arguments(letter)) for letter in found],
        "queue": queue,
        "search": search,
        "queues": names(),
        "more": urlencode({name: value for name, value in asked.items() if value}) if more else "",
    }


@page.post("/dead")
def act() -> Response:
    """`letter` (many): QUEUE followed by a space and the id. `all`: every one of `queue`, whatever is ticked."""
    action = request.form.get("action", "")
    if action.removesuffix("_all") not in ACTS:
        raise UsageError(f"{action!r} is not possible here: {', '.join(ACTS)}")
    settled = ACTS[action.removesuffix("_all")]
    queue = request.form.get("queue", "")[:LONGEST_NAME]
    if action.endswith("_all"):
        if not queue:
            raise UsageError("choose a queue first: all of a queue can be replayed or deleted, not all of every queue")
        done, left = settle(queue, None, settled)
    else:
        done, left = _chosen(settled)
    tell(f"{action} {queue}: {done} done, {left} left")
    word = f"dead.was_{action.removesuffix('_all')}"
    return page.done(f"/dead?{urlencode({'queue': queue})}" if queue else "/dead", word, n=done)


def _chosen(settled: Any) -> tuple[int, int]:
    by_queue: dict[str, list[str]] = {}
    for said in request.form.getlist("letter")[:MOST_CHOSEN]:
        queue, _, id_ = said.partition(" ")
        by_queue.setdefault(queue[:LONGEST_NAME], []).append(id_)
    if not by_queue:
        raise UsageError("nothing is ticked")
    results = [settle(queue, ids, settled) for queue, ids in by_queue.items()]
    return sum(done for done, _ in results), sum(left for _, left in results)
