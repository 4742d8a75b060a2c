"""Pause, resume and cancel: one conditional UPDATE each, then wait until no worker has the campaign in hand.

A campaign that is not sending gives out no lease (`app/campaigns/batches.py`), and every process looks five
times a second whether its leases may go on (`app/campaigns/keeper.py`). A lease ends when the replies to all
that was said under it are written down. So once none is open, no server accepts another mail of the campaign.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.campaigns.finish import try_finish
from app.campaigns.lifecycle import find_campaign
from app.db import Db
from app.errors import Refused
from app.events import emit
from app.models.states import BatchState, CampaignStatus
from app.models.tables import Campaign

#: So long a person waits at most for the mails in hand, in seconds, unless another time is said.
WAIT_SECONDS = 2.0
LOOK_SECONDS = 0.02

MAY_PAUSE = (CampaignStatus.SCHEDULED, CampaignStatus.SENDING)
MAY_CANCEL = (CampaignStatus.DRAFT, CampaignStatus.SCHEDULED, CampaignStatus.SENDING, CampaignStatus.PAUSED)


@dataclass(frozen=True)
class Moved:
    """`status` is the campaign's now; `changed`: by this call, else it was so before."""

    status: CampaignStatus
    changed: bool


@dataclass(frozen=True)
class InHand:
    """What workers have leased of a campaign: so many batches, and recipients in them."""

    batches: int
    recipients: int


def pause_campaign(db: Db, campaign_id: int) -> Moved:
    """Have nothing more of a scheduled or sending campaign sent; raises NotFound or Refused."""
    paused = CampaignStatus.PAUSED
    moved = _move(db, campaign_id, MAY_PAUSE, (paused,), "status = ?, boost = 0", paused)
    if moved.changed:
        emit("campaign paused", campaign_id=campaign_id)
    return moved


def resume_campaign(db: Db, campaign_id: int, now: int) -> Moved:
    """Make a paused campaign what it was: scheduled (the next tick starts it when it is due) or sending.

    Whoever does this knows its errors: those that pause it by itself are counted from here. Raises NotFound or Refused.
    """
    so_far = "(SELECT COALESCE(SUM({0}), 0) FROM batches b WHERE b.campaign_id = campaigns.id)"
    moved = _move(
        db, campaign_id, (CampaignStatus.PAUSED,), MAY_PAUSE,
        "status = CASE WHEN started_at IS NULL THEN ? ELSE ? END, reason = NULL, queued = 0, "
        f"sent_at_resume = {so_far.format('sent')}, failed_at_resume = {so_far.format('failed')}", *MAY_PAUSE,
    )  # fmt: skip
    if moved.changed:
        emit("campaign resumed", campaign_id=campaign_id, status=moved.status)
        # The last mail in hand may have been answered during the pause.
        if moved.status == CampaignStatus.SENDING and try_finish(db, campaign_id, now):
            return Moved(CampaignStatus.SENT, True)
    return moved


def cancel_campaign(db: Db, campaign_id: int, now: int) -> Moved:
    """End a campaign that is not over; `app/campaigns/cancelling.py` skips the rest. Raises NotFound or Refused."""
    cancelled = CampaignStatus.CANCELLED
    moved = _move(
        db, campaign_id, MAY_CANCEL, (cancelled,), "status = ?, boost = 0, finished_at = ?", cancelled, now
    )  # fmt: skip
    if moved.changed:
        emit("campaign cancelled", campaign_id=campaign_id)
    return moved


def in_hand(db: Db, campaign_id: int) -> InHand:
    """What workers have leased of the campaign just now."""
    row = db.row(
        "SELECT COUNT(*), COALESCE(SUM(pending), 0) FROM batches WHERE campaign_id = ? AND state = ?",
        campaign_id, BatchState.LEASED,
    )  # fmt: skip
    assert row is not None
    return InHand(int(row[0]), int(row[1]))


def in_hand_from(db: Db, sender: str) -> InHand:
    """What workers have leased just now of all campaigns from an address; `sender` as in `app/mail/senders.py`."""
    row = db.row(
        "SELECT COUNT(*), COALESCE(SUM(b.pending), 0) FROM batches b JOIN campaigns c ON c.id = b.campaign_id "
        "WHERE b.state = ? AND LOWER(c.envelope_sender) = ?",
        BatchState.LEASED, sender,
    )  # fmt: skip
    assert row is not None
    return InHand(int(row[0]), int(row[1]))


def wait_until_quiet(db: Db, campaign_id: int, seconds: float = WAIT_SECONDS) -> InHand:
    """Wait until nobody has anything of the campaign in hand; what somebody still has when the time is over.

    For a campaign that is paused or cancelled: nothing left in hand means that no server accepts a mail of it.
    """
    return _wait(lambda: in_hand(db, campaign_id), seconds)


def wait_until_quiet_from(db: Db, sender: str, seconds: float = WAIT_SECONDS) -> InHand:
    """The same for all campaigns from an address that is paused."""
    return _wait(lambda: in_hand_from(db, sender), seconds)


def _wait(look: Callable[[], InHand], seconds: float) -> InHand:
    deadline = time.monotonic() + seconds
    while (left := look()).batches and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return left


def _move(
    db: Db,
    campaign_id: int,
    sources: Sequence[CampaignStatus],
    targets: Sequence[CampaignStatus],
    assignments: str,
    *values: object,
) -> Moved:
    """Move a campaign out of `sources`; one of `targets` already is fine, any other is Refused."""
    find_campaign(campaign_id)  # Before the UPDATE, which no number beyond 64 bits may reach.
    while True:
        changed = db.run(
            f"UPDATE campaigns SET {assignments} WHERE id = ? AND status IN ({', '.join('?' * len(sources))})",
            *values, campaign_id, *sources,
        )  # fmt: skip
        campaign = find_campaign(campaign_id)
        status = CampaignStatus(campaign.status)
        if changed or status in targets:
            return Moved(status, changed == 1)
        # Else it became one of the sources between the two statements.
        if status not in sources:
            raise Refused(f"campaign {campaign_id} {_why_not(campaign, status)}")


def _why_not(campaign: Campaign, status: CampaignStatus) -> str:
    """Why a campaign in this status is neither paused, resumed nor cancelled, and what can be done."""
    match status:
        case CampaignStatus.DRAFT:
            return f"is a draft, nothing of it is sent; bin/mailcrew campaigns schedule {campaign.id}, or cancel it"
        case CampaignStatus.SENT:
            return f"is sent: every recipient has been dealt with; see bin/check-campaign {campaign.id}"
        case CampaignStatus.CANCELLED:
            return "is cancelled, and stays so; create another one for those who were skipped"
        case _:
            why = f" ({campaign.reason})" if campaign.reason else ""
            return f"is {status}{why}: it sends nothing any more; see bin/check-campaign {campaign.id}"
