"""Who did what."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from app.web.audit import entries
from app.web.campaigns import LARGEST_ID
from app.web.console.page import Page
from app.web.query import text, whole
from app.web.resources import resources

page = Page("audit", nav=("access", 10))

PAGE = 60


@page.get("/audit", scope="admin")
def look() -> dict[str, Any]:
    before = whole("before", LARGEST_ID, LARGEST_ID)
    who, action = text("who", 110), text("action", 100)
    found = entries(resources().db, PAGE + 1, before, who, action)
    asked = {"who": who, "action": action, "before": found[PAGE - 1].id if len(found) > PAGE else None}
    return {
        "found": found[:PAGE],
        "who": who,
        "action": action,
        "more": urlencode({name: value for name, value in asked.items() if value}) if asked["before"] else "",
    }
