"""What is sending, how fast, what waits, who works, what needs somebody."""

from __future__ import annotations

from typing import Any

from app.models.states import ServerState
from app.models.tables import Campaign, Server, Subscriber
from app.web.alarms import page_of
from app.web.console.page import Page
from app.web.console.pages.alarms import say
from app.web.resources import resources
from app.web.sights import sending_now, sight

page = Page("overview", nav=("send", 0))

#: The page of alarms has them all.
MOST_ALARMS = 3


@page.live("/")
def look() -> dict[str, Any]:
    seen = resources().watcher.fresh()
    loud = seen.loud() if seen else []
    return {
        "sight": sight(),
        "campaigns": sending_now(),
        "worst": loud[:MOST_ALARMS],
        "more": len(loud) - MOST_ALARMS,
        "say": say,
        "page_of": page_of,
        "begun": {
            "people": Subscriber.select().exists(),
            "servers": Server.select().where(Server.state != ServerState.REMOVED).exists(),
            "campaigns": Campaign.select().exists(),
        },
    }
