"""What is sending, how fast, what waits, who works, what needs somebody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.campaigns.progress import Progress
from app.models.tables import Campaign, Server, Subscriber
from app.web.console.page import Page
from app.web.sights import Sight, sending_now, sight

page = Page("overview", nav=("send", 0))


@dataclass(frozen=True)
class Alarm:
    """Something that needs a person: which words tell it, with what values, and where to look."""

    word: str
    values: dict[str, Any]
    path: str


@page.live("/")
def look() -> dict[str, Any]:
    seen, campaigns = sight(), sending_now()
    return {
        "sight": seen,
        "campaigns": campaigns,
        "alarms": alarms(seen, campaigns),
        "begun": {
            "people": Subscriber.select().exists(), "servers": Server.select().exists(),
            "campaigns": Campaign.select().exists(),
        },
    }  # fmt: skip


def alarms(seen: Sight, campaigns: list[Progress]) -> list[Alarm]:
    """What stands still or fails, the worst first."""
    found = [Alarm("overview.trouble", {"what": what}, "/queues") for what in seen.troubles]
    for line in seen.lines:
        name = line.queue.name
        if line.abandoned:
            found.append(Alarm("overview.abandoned", {"queue": name, "n": line.waiting}, f"/workers?queue={name}"))
        elif line.behind:
            found.append(Alarm("overview.behind", {"queue": name, "n": line.waiting}, "/scaling"))
        if line.dead:
            found.append(Alarm("overview.dead", {"queue": name, "n": line.dead}, f"/dead?queue={line.queue.queues[0]}"))
    for worker in seen.workers or ():
        if worker.trouble:
            found.append(Alarm("overview.worker", {"worker": worker.program, "what": worker.trouble}, "/workers"))
    for one in campaigns:
        if one.blocked_by:
            found.append(
                Alarm("overview.blocked", {"name": one.name, "what": one.blocked_by}, f"/campaigns/{one.campaign_id}")
            )
    return found
