"""What a person decides about recipients whose mail may or may not have arrived."""

from __future__ import annotations

from dataclasses import dataclass

from app.campaigns.batches import AT_ONCE
from app.db import Db
from app.errors import Refused
from app.events import emit
from app.models.states import BatchState, CampaignStatus, RecipientState
from app.models.tables import Campaign

SETTLED = "taken as delivered by a person's decision"
#: A campaign in one of these may send to its unknown recipients again; a paused one when it is resumed.
MAY_RESEND = frozenset({CampaignStatus.SENT, CampaignStatus.SENDING, CampaignStatus.PAUSED})


@dataclass(frozen=True)
class Decided:
    """`decided` recipients were changed; `in_hand` are in leased batches and can be decided later."""

    decided: int
    in_hand: int


def resend_unknown(db: Db, campaign: Campaign) -> Decided:
    """Send the unknown ones again, with the same Message-ID, so that a careful mailbox shows it once.

    A paused campaign stays paused: they are pending until it is resumed. Raises Refused for a campaign that
    ended otherwise than by being sent.
    """
    if campaign.status not in MAY_RESEND:
        raise Refused(f"campaign {campaign.id} is {campaign.status}: only a sending, paused or sent one can send again")
    decided = _decide(db, campaign.id, RecipientState.PENDING, "sent again by a person's decision")
    if decided.decided:
        db.run(
            "UPDATE campaigns SET status = ?, finished_at = NULL WHERE id = ? AND status = ?",
            CampaignStatus.SENDING, campaign.id, CampaignStatus.SENT,
        )  # fmt: skip
        emit("unknown recipients are sent again", campaign_id=campaign.id, count=decided.decided)
    return decided


def settle_unknown(db: Db, campaign: Campaign) -> Decided:
    """Take the unknown ones as delivered: they count as sent, with that reason."""
    decided = _decide(db, campaign.id, RecipientState.SENT, SETTLED)
    emit("unknown recipients settled", campaign_id=campaign.id, count=decided.decided)
    return decided


def _decide(db: Db, campaign_id: int, state: RecipientState, reason: str) -> Decided:
    """Batch by batch, a transaction each: a crash in between leaves the rest unknown, to be decided again."""
    decided = in_hand = 0
    rows = db.rows(
        "SELECT number, state, unknown FROM batches WHERE campaign_id = ? AND unknown > 0 ORDER BY number", campaign_id
    )
    for number, batch_state, unknown in rows:
        if batch_state == BatchState.LEASED:
            in_hand += unknown
            continue
        with db.transaction():
            decided += _decide_batch(db, campaign_id, number, state, reason)
    return Decided(decided, in_hand)


def _decide_batch(db: Db, campaign_id: int, number: int, state: RecipientState, reason: str) -> int:
    # The fence: from here to the commit nobody leases this batch.
    free = db.run(
        "UPDATE batches SET settled_token = NULL WHERE campaign_id = ? AND number = ? AND state IN (?, ?)",
        campaign_id, number, BatchState.READY, BatchState.DONE,
    )  # fmt: skip
    if not free:
        return 0
    changed = db.run(
        f"UPDATE recipients{db.by_batch} SET state = ?, reason = ? WHERE campaign_id = ? AND batch = ? AND state = ?",
        state, reason, campaign_id, number, RecipientState.UNKNOWN,
    )  # fmt: skip
    db.run(
        f"UPDATE batches SET unknown = unknown - ?, {state} = {state} + ? WHERE campaign_id = ? AND number = ?",
        changed, changed, campaign_id, number,
    )  # fmt: skip
    if state is RecipientState.PENDING:
        db.run(
            "UPDATE batches SET state = ?, ready_at = ?, finished_at = NULL WHERE campaign_id = ? AND number = ?",
            BatchState.READY, AT_ONCE, campaign_id, number,
        )  # fmt: skip
        # Their answer is not known, so there is nothing to wait for before this try.
        db.run(
            f"UPDATE recipients{db.by_batch} SET tried_at = NULL "
            "WHERE campaign_id = ? AND batch = ? AND state = ? AND reason = ?",
            campaign_id, number, state, reason,
        )  # fmt: skip
    return changed
