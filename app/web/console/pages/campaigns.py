"""All campaigns, the newest first, with their progress."""

from __future__ import annotations

from typing import Any

from app.campaigns.totals import totals_of
from app.models.states import CampaignStatus
from app.models.tables import LISTED, Campaign
from app.web.campaigns import LARGEST_ID
from app.web.console.page import Page
from app.web.resources import resources

page = Page("campaigns", nav=("send", 10))

PAGE = 30


@page.live("/campaigns", query=("status", "before"))
def look(status: str, before: str) -> dict[str, Any]:
    chosen = Campaign.select(*LISTED).order_by(Campaign.id.desc()).limit(PAGE + 1)
    if status in set(CampaignStatus):
        chosen = chosen.where(Campaign.status == status)
    if before.isascii() and before.isdigit() and int(before[:19]) <= LARGEST_ID:
        chosen = chosen.where(Campaign.id < int(before[:19]))
    found = list(chosen)
    shown = found[:PAGE]
    return {
        "campaigns": shown,
        "totals": totals_of(resources().db, [campaign.id for campaign in shown]),
        "statuses": [state.value for state in CampaignStatus],
        "more": shown[-1].id if len(found) > PAGE else None,
    }
