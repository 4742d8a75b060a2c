"""How many workers there were and why: the manager's decisions, drawn over backlog and workers."""

from __future__ import annotations

from typing import Any

from app.web.campaigns import LARGEST_ID
from app.web.console.page import Page
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
    }
