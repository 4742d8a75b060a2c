"""What this home is set to, and where that is said; the migrations of its database."""

from __future__ import annotations

from typing import Any

from app.web.console.page import Page
from app.web.settings import migrations, shown

page = Page("settings", nav=("access", 30))


@page.get("/settings", scope="admin")
def look() -> dict[str, Any]:
    found = migrations()
    return {
        "settings": shown(),
        "missing": [one["name"] for one in found if not one["applied"]],
        "migrations": len(found),
    }
