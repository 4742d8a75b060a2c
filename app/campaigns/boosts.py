"""Boosts: workers that serve one campaign only, wanted in the database for as long as it is sending.

`campaigns.boost` says how many. Who changes processes goes by it; a boost whose campaign is paused or
over counts for nothing there, and `forget_ended` forgets it.
"""

from __future__ import annotations

import re

from app.campaigns.lifecycle import find_campaign
from app.db import Db
from app.errors import Refused, UsageError
from app.events import emit
from app.models.states import BATCH_OPEN, CAMPAIGN_ENDED, CampaignStatus, ExpansionState

#: Workers that one campaign may be given at most; the machine's own limits are mostly lower.
MOST = 1000

_QUEUE = re.compile(r"campaign_([1-9]\d{0,17})")


def queue_of(campaign_id: int) -> str:
    """The queue that only workers of this campaign serve."""
    return f"campaign_{campaign_id}"


def campaign_of(queue: str) -> int | None:
    """The campaign whose own queue this is; None for a queue of all."""
    found = _QUEUE.fullmatch(queue)
    return int(found[1]) if found else None


def check_boost(db: Db, campaign_id: int, workers: int) -> int:
    """Whether the campaign may have so many workers; how many it is to have now.

    Raises UsageError, NotFound, or Refused when it has nothing to send.
    """
    if not 1 <= workers <= MOST:
        raise UsageError(f"COUNT={workers} is not allowed: 1 to {MOST} workers; --off takes them away")
    campaign = find_campaign(campaign_id)
    if campaign.status != CampaignStatus.SENDING:
        raise Refused(f"campaign {campaign_id} has nothing to send: {_why(campaign_id, campaign.status)}")
    expanding = db.value(
        "SELECT 1 FROM expansions WHERE campaign_id = ? AND state = ?", campaign_id, ExpansionState.RUNNING
    )
    if not expanding and not open_batches(db, campaign_id):
        raise Refused(f"campaign {campaign_id} has nothing to send: every recipient is done")
    return int(campaign.boost)


def want_boost(db: Db, campaign_id: int, workers: int) -> None:
    """Write down that a sending campaign is to have so many workers; raises as `check_boost` does."""
    before = check_boost(db, campaign_id, workers)
    wanted = db.run(
        "UPDATE campaigns SET boost = ? WHERE id = ? AND status = ?", workers, campaign_id, CampaignStatus.SENDING
    )
    if wanted != 1:
        raise Refused(f"campaign {campaign_id} has just stopped sending; see bin/check-campaign {campaign_id}")
    emit("boost wanted", campaign_id=campaign_id, workers=workers, before=before)


def drop_boost(db: Db, campaign_id: int) -> None:
    """Write down that a campaign is to have no workers of its own."""
    if db.run("UPDATE campaigns SET boost = 0 WHERE id = ? AND boost > 0", campaign_id):
        emit("boost ended", campaign_id=campaign_id)


def is_boosted(db: Db, campaign_id: int) -> bool:
    """Whether the campaign is to have workers of its own now."""
    return bool(
        db.value(
            "SELECT 1 FROM campaigns WHERE id = ? AND status = ? AND boost > 0", campaign_id, CampaignStatus.SENDING
        )
    )


def open_batches(db: Db, campaign_id: int) -> int:
    """Batches of a campaign that are not done."""
    return int(
        db.value(
            "SELECT COUNT(*) FROM batches WHERE campaign_id = ? AND state IN (?, ?)", campaign_id, *sorted(BATCH_OPEN)
        )
    )


def forget_ended(db: Db) -> int:
    """Forget the boosts of campaigns that are not sending, so that a resumed one starts without; how many."""
    return db.run("UPDATE campaigns SET boost = 0 WHERE boost > 0 AND status <> ?", CampaignStatus.SENDING)


def _why(campaign_id: int, status: str) -> str:
    if status in CAMPAIGN_ENDED:
        return f"it is {status}"
    if status == CampaignStatus.DRAFT:
        return f"it is a draft; first bin/mailcrew campaigns schedule {campaign_id}"
    if status == CampaignStatus.PAUSED:
        return f"it is paused; first bin/mailcrew campaigns resume {campaign_id}"
    return f"it is {status}; boost it when it is sending"
