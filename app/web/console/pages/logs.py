"""What all processes log: searched, paged, followed."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from flask import Response, g, render_template, request

from app.watch.logs.cursor import Cursor
from app.watch.logs.wanted import LEVELS, Entry
from app.web.console.page import Page
from app.web.logs import CONDITIONS, a_page, asked_for, conditions, cursor, names, sighting, what_is_new

page = Page("logs", nav=("watch", 30))

PAGE = 200
#: With more than so many new ones at once the page is made anew.
MOST_NEW = 500
#: Conditions that are seldom needed, so they are folded.
FOLDED = ("event", "campaign", "server", "pid", "since", "until")
#: Fields that tell nothing here.
UNTOLD = frozenset({"logger", "program"})


@page.get("/logs", scope="admin")
def look() -> dict[str, Any]:
    asked, before, said = asked_for(), cursor("before"), conditions()
    end, found = a_page(asked, before, PAGE)
    follows = before is None and asked.until is None and request.args.get("follow") != "off"
    return {
        "found": found.entries,
        "asked": {name: said.get(name, "") for name in CONDITIONS},
        "names": names(),
        "levels": [one for one in LEVELS if one != "debug"],
        "unfolded": any(name in said for name in FOLDED),
        "filtered": bool(said),
        "looked_to": found.looked_to,
        "older": urlencode({**said, "before": str(found.older)}) if found.older else "",
        "newest": urlencode(said),
        "paged": before is not None,
        "follows": follows,
        "may_follow": before is None and asked.until is None,
        "next": _next(end) if follows else "",
        "fields": fields,
    }


@page.download("/logs/live", scope="admin")
def new() -> Response:
    """What was logged behind `after` (without it: nothing yet), and where to ask next; 204 when nothing was."""
    g.quiet = True
    asked, after = asked_for(), cursor("after")
    found = what_is_new(asked, after or sighting().end, MOST_NEW)
    if found.more:
        return Response(status=204, headers={"HX-Refresh": "true"})
    if not found.entries and str(found.cursor) == str(after):
        return Response(status=204)
    text = render_template("_logs.html", found=found.entries[::-1], next=_next(found.cursor), fields=fields)
    return Response(text)


def fields(entry: Entry) -> list[tuple[str, str]]:
    """What an entry says beside its event, as text."""
    said = {**(entry.fields or {}), "pid": entry.pid}
    return [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in said.items()
        if name not in UNTOLD and value is not None
    ]


def _next(end: Cursor) -> str:
    return urlencode({**conditions(), "after": str(end)})
