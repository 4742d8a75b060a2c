"""End a campaign: one conditional UPDATE, tried after every last commit and by the sweep."""

from __future__ import annotations

from app.db import Db
from app.events import emit, warn
from app.models.states import CAMPAIGN_EXPANDS, BatchState, CampaignStatus, ExpansionState


def try_finish(db: Db, campaign_id: int, now: int) -> bool:
    """Make the campaign `sent` if its expansion is done and no batch is open; True when this call did it."""
    # Nearly every call ends here, without a lock on the row that all leases of the campaign need.
    if db.value(
        "SELECT 1 FROM batches WHERE campaign_id = ? AND state IN (?, ?) LIMIT 1",
        campaign_id, BatchState.READY, BatchState.LEASED,
    ):  # fmt: skip
        return False
    finished = db.run(
        "UPDATE campaigns SET status = ?, boost = 0, finished_at = ? WHERE id = ? AND status = ? "
        "AND EXISTS (SELECT 1 FROM expansions e WHERE e.campaign_id = ? AND e.state = ?) "
        "AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.campaign_id = ? AND b.state IN (?, ?))",
        CampaignStatus.SENT, now, campaign_id, CampaignStatus.SENDING,
        campaign_id, ExpansionState.DONE, campaign_id, BatchState.READY, BatchState.LEASED,
    )  # fmt: skip
    if finished:
        emit("campaign sent", campaign_id=campaign_id)
    return finished == 1


def give_up(db: Db, campaign_id: int, reason: str, now: int) -> None:
    """Make a sending campaign, paused or not, `failed` for a reason that trying again would not change."""
    failed = db.run(
        "UPDATE campaigns SET status = ?, reason = ?, boost = 0, finished_at = ? WHERE id = ? AND status IN (?, ?)",
        CampaignStatus.FAILED, reason[:500], now, campaign_id, *sorted(CAMPAIGN_EXPANDS),
    )  # fmt: skip
    if failed:
        warn("campaign failed", campaign_id=campaign_id, reason=reason)
