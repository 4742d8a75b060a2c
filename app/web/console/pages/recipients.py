"""The recipients of a campaign, each with what became of it and why."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from app.campaigns.lifecycle import find_campaign
from app.campaigns.recipient_pages import SHOWN_STATES, recipients_page
from app.models.states import CAMPAIGN_ENDED
from app.web.console.page import Page
from app.web.console.pages.campaign import PATH
from app.web.query import one_of, text
from app.web.resources import resources

page = Page("recipients", under="campaigns")

PAGE = 50


@page.get(f"{PATH}/recipients")
def look(campaign_id: int) -> dict[str, Any]:
    state, email, after = one_of("state", SHOWN_STATES), text("email", 320), text("after", 400)
    campaign = find_campaign(campaign_id)
    found, more = recipients_page(resources().db, campaign, PAGE, state=state, begins=email, after=after)
    asked = {"state": state, "email": email, "after": more}
    return {
        "campaign": campaign,
        "ended": CAMPAIGN_ENDED,
        "found": found,
        "state": state,
        "email": email,
        "states": SHOWN_STATES,
        "more": urlencode({name: value for name, value in asked.items() if value}) if more else "",
    }
