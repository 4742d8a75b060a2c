"""How far a campaign is: from the counters of its batches, never by counting recipients."""

from __future__ import annotations

from dataclasses import dataclass

from app.db import Db
from app.models.states import CAMPAIGN_EXPANDS, BatchState, CampaignStatus, ExpansionState
from app.models.tables import Campaign, Expansion

#: The speed is that of the last so many ms.
RATE_WINDOW_MS = 10_000


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
    rate = _rate(db, campaign, now)
    left = pending + sending
    is_sending = campaign.status == CampaignStatus.SENDING
    return Progress(
        campaign_id=campaign.id, name=campaign.name, status=campaign.status, reason=campaign.reason,
        recipients=left + sent + failed + skipped + unknown,
        pending=pending, sending=sending, sent=sent, failed=failed, skipped=skipped, unknown=unknown,
        expanding=expanding,
        rate_per_second=rate,
        eta_seconds=round(left / rate, 1) if rate and left and not expanding and is_sending else None,
        blocked_by=blocked_by(db, campaign, expansion, now) if is_sending else None,
    )  # fmt: skip


def _rate(db: Db, campaign: Campaign, now: int) -> float:
    """Mails a second: of the last seconds while sending, of the whole run when it has ended."""
    started = campaign.started_at or now
    if campaign.status in CAMPAIGN_EXPANDS:
        since = max(started, now - RATE_WINDOW_MS)
        until = now
    else:
        since, until = started, campaign.finished_at or now
    done = db.value(
        "SELECT SUM(sent + failed) FROM batches WHERE campaign_id = ? AND finished_at >= ?", campaign.id, since
    )
    return round(int(done or 0) * 1000 / max(until - since, 1000), 1)


def blocked_by(db: Db, campaign: Campaign, expansion: Expansion | None, now: int) -> str | None:
    """Why nothing of a sending campaign can move just now, in one phrase; None when it can."""
    if expansion is not None and expansion.error:
        return f"expansion: {expansion.error} (tried again by itself)"
    if db.value(
        "SELECT 1 FROM batches WHERE campaign_id = ? AND (state = ? OR (state = ? AND ready_at <= ?)) LIMIT 1",
        campaign.id, BatchState.LEASED, BatchState.READY, now,
    ):  # fmt: skip
        return None
    servers = db.rows(
        "SELECT s.name, s.cooldown_until, s.cooldown_reason FROM campaign_servers c JOIN servers s "
        "ON s.id = c.server_id WHERE c.campaign_id = ? AND s.state = 'active' ORDER BY s.cooldown_until",
        campaign.id,
    )
    if not servers:
        return "no active SMTP server: bin/mailcrew servers list"
    if all((until or 0) > now for _, until, _ in servers):
        return f"server {servers[0][0]}: {servers[0][2]}"
    later = db.value(
        "SELECT MIN(ready_at) FROM batches WHERE campaign_id = ? AND state = ?", campaign.id, BatchState.READY
    )
    if later:
        return f"recipients whose servers said later; the next are tried in {max(1, (int(later) - now) // 1000)} s"
    return None
