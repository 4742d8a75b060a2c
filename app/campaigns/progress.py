"""How far a campaign is: from the counters of its batches, never by counting recipients."""

from __future__ import annotations

from dataclasses import dataclass

from app.campaigns.blocking import blocked_by
from app.campaigns.estimates import limits_of, rate_of, seconds_left
from app.db import Db
from app.models.states import BatchState, CampaignStatus, ExpansionState
from app.models.tables import Campaign, Expansion


@dataclass(frozen=True)
class Progress:
    """`pending + sending + sent + failed + skipped + unknown = recipients`. Times in seconds."""

    campaign_id: int
    name: str
    status: str
    reason: str | None
    recipients: int
    pending: int
    sending: int
    sent: int
    failed: int
    skipped: int
    unknown: int
    expanding: bool
    rate_per_second: float
    eta_seconds: float | None
    blocked_by: str | None

    @property
    def done(self) -> int:
        return self.sent + self.failed + self.skipped + self.unknown


def progress_of(db: Db, campaign: Campaign, now: int) -> Progress:
    """The campaign's progress at `now` (ms)."""
    rows = db.rows(
        "SELECT state, SUM(pending), SUM(sent), SUM(failed), SUM(skipped), SUM(unknown) FROM batches "
        "WHERE campaign_id = ? GROUP BY state",
        campaign.id,
    )
    totals = {row[0]: [int(value) for value in row[1:]] for row in rows}
    sent, failed, skipped, unknown = (sum(t[i] for t in totals.values()) for i in range(1, 5))
    sending = totals.get(BatchState.LEASED, [0])[0]
    pending = sum(t[0] for t in totals.values()) - sending
    expansion = Expansion.get_or_none(Expansion.campaign_id == campaign.id)
    expanding = expansion is not None and expansion.state == ExpansionState.RUNNING
    rate = rate_of(db, campaign, now)
    left = pending + sending
    is_sending = campaign.status == CampaignStatus.SENDING
    eta = None
    if is_sending and left and not expanding:
        eta = seconds_left(left, rate, (campaign.held_until - now) / 1000, limits_of(db, campaign.id))
    return Progress(
        campaign_id=campaign.id, name=campaign.name, status=campaign.status, reason=campaign.reason,
        recipients=left + sent + failed + skipped + unknown,
        pending=pending, sending=sending, sent=sent, failed=failed, skipped=skipped, unknown=unknown,
        expanding=expanding,
        rate_per_second=rate,
        eta_seconds=eta,
        blocked_by=blocked_by(db, campaign, expansion, now) if is_sending else None,
    )  # fmt: skip
