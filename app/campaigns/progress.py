"""How far a campaign is: from the counters of its batches, never by counting recipients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from app.campaigns.blocking import blocked_by
from app.campaigns.estimates import limits_of, rate_of, seconds_left
from app.campaigns.totals import Totals, totals_of
from app.db import Db
from app.db.parts import parts
from app.models.states import CampaignStatus, ExpansionState
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
    return progress_of_all(db, [campaign], now)[0]


def progress_of_all(db: Db, campaigns: Sequence[Campaign], now: int) -> list[Progress]:
    """The progress of each, in their order; those that are not sending cost no query of their own."""
    found: list[Progress] = []
    for part in parts(campaigns):
        ids = [campaign.id for campaign in part]
        totals = totals_of(db, ids)
        expansions = {one.campaign_id: one for one in Expansion.select().where(Expansion.campaign_id.in_(ids))}
        found += [_progress(db, one, totals[one.id], expansions.get(one.id), now) for one in part]
    return found


def _progress(db: Db, campaign: Campaign, totals: Totals, expansion: Expansion | None, now: int) -> Progress:
    expanding = expansion is not None and expansion.state == ExpansionState.RUNNING
    rate = rate_of(db, campaign, totals.sent + totals.failed, now)
    left = totals.pending + totals.sending
    is_sending = campaign.status == CampaignStatus.SENDING
    eta = None
    if is_sending and left and not expanding:
        eta = seconds_left(left, rate, (campaign.held_until - now) / 1000, limits_of(db, campaign.id))
    return Progress(
        campaign_id=campaign.id, name=campaign.name, status=campaign.status, reason=campaign.reason,
        recipients=totals.recipients, **asdict(totals),
        expanding=expanding,
        rate_per_second=rate,
        eta_seconds=eta,
        blocked_by=blocked_by(db, campaign, expansion, now) if is_sending else None,
    )  # fmt: skip
