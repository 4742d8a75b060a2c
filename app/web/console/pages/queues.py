"""What waits, for how long, and who works on it."""

from __future__ import annotations

from typing import Any

from app.web.console.page import Page
from app.web.sights import sight

page = Page("queues", nav=("machine", 10))


@page.live("/queues")
def look() -> dict[str, Any]:
    return {"sight": sight()}
