"""Lease the next batch: the campaign whose turn it is (`app/campaigns/turns.py`), then its oldest ready batch."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from app.campaigns.turns import MAY_LEASE, Turn, may_lease, take_turn, turns
from app.db import Db
from app.models.states import BatchState, CampaignStatus

#: The `ready_at` of what may go at once. Not "now": a clock that is set back would make it wait.
AT_ONCE = 0
#: Who was overtaken looks again, this often at most: in the end a turn too early is better than none.
LEASE_TRIES = 8


@dataclass
class Lease:
    """The right to send one batch. `deadline` is in seconds by the machine's clock (`since_boot`).

    `weight`: that of the campaign, whose turn this was, for `charged` recipients; 0 when it took no turn.
    """

    campaign_id: int
    number: int
    token: str
    size: int
    deadline: float
    weight: int = 0
    charged: int = 0
    halted: bool = field(default=False)

    def refund(self, decided: int) -> float:
        """What the campaign gets back of its turn when so many of the batch were dealt with; below 0: owes more."""
        return (self.charged - decided) / self.weight if self.weight else 0.0


def new_token() -> str:
    """A token for one lease: 128 random bits as 32 hex digits."""
    return secrets.token_hex(16)


def next_ready(db: Db, only: int | None, now: int, leave: Collection[int] = ()) -> tuple[Turn, int, int] | None:
    """The batch to send next: its campaign's turn, its number, how many are pending in it."""
    waiting = turns(db, now, only, leave)
    found = _oldest_ready(db, waiting[0], now) if waiting else None
    if found or len(waiting) < 2:
        return found
    # Hundreds may be sending and have nothing that is ready: one question for all of them. Each of these has
    # something, so the first look finds it, unless others are leasing it just now.
    ready = campaigns_with_ready(db, now)
    looks = (_oldest_ready(db, turn, now) for turn in waiting[1:] if turn.campaign_id in ready)
    return next((found for found in looks if found), None)


def campaigns_with_ready(db: Db, now: int) -> set[int]:
    """The campaigns with a batch that may be leased now."""
    rows = db.rows(
        # The first entry of each in the index. For `EXISTS (… ready_at <= now)` MySQL reads all that wait.
        f"SELECT c.id FROM campaigns c WHERE {MAY_LEASE} AND (SELECT b.ready_at FROM batches b "
        "WHERE b.campaign_id = c.id AND b.state = ? ORDER BY b.ready_at LIMIT 1) <= ?",
        CampaignStatus.SENDING, now, BatchState.READY, now,
    )  # fmt: skip
    return {int(row[0]) for row in rows}


def _oldest_ready(db: Db, turn: Turn, now: int) -> tuple[Turn, int, int] | None:
    row = db.row(
        "SELECT number, pending FROM batches WHERE campaign_id = ? AND state = ? AND ready_at <= ? "
        f"ORDER BY ready_at, number LIMIT 1{db.skip_locked}",
        turn.campaign_id, BatchState.READY, now,
    )  # fmt: skip
    return (turn, int(row[0]), int(row[1])) if row else None


def lease_next(
    db: Db,
    *,
    token: str,
    journal: str,
    only: int | None,
    now: int,
    monotonic: float,
    lease_seconds: int,
    leave: Collection[int] = (),
    expected: Mapping[int, int] | None = None,
) -> Lease | None:
    """Lease the next ready batch of the campaign whose turn it is, none of `leave`; None when there is none now.

    `expected`: campaigns of whose batch only so many will be sent, so that no more is charged beforehand.
    """
    for tried in range(1, LEASE_TRIES + 1):
        with db.transaction():
            found = next_ready(db, only, now, leave)
            if found is None:
                return None
            turn, number, pending = found
            taken = db.run(
                "UPDATE batches SET state = ?, token = ?, settled_token = NULL, journal = ?, lease_until = ?, "
                "leased_count = leased_count + 1 WHERE campaign_id = ? AND number = ? AND state = ?",
                BatchState.LEASED, token, journal, now + lease_seconds * 1000, turn.campaign_id, number,
                BatchState.READY,
            )  # fmt: skip
            if taken != 1:
                return None
            # Asked again: it may have been paused or held between the look and the lease, or others took its turn.
            charged = min(pending, (expected or {}).get(turn.campaign_id, pending))
            if only:
                is_ours = may_lease(db, turn.campaign_id, now)
            else:
                is_ours = take_turn(db, turn, charged, now, anyhow=tried == LEASE_TRIES)
            if is_ours:
                weight = 0 if only else max(1, turn.weight)
                return Lease(turn.campaign_id, number, token, pending, monotonic + lease_seconds, weight, charged)
            hand_back(db, turn.campaign_id, number, token, AT_ONCE)
    return None


def hand_back(db: Db, campaign_id: int, number: int, token: str, ready_at: int) -> bool:
    """Return a batch of which nothing was tried; True if the lease was still ours."""
    returned = db.run(
        "UPDATE batches SET state = ?, ready_at = ?, token = NULL, journal = NULL, lease_until = NULL "
        "WHERE campaign_id = ? AND number = ? AND token = ? AND state = ?",
        BatchState.READY, ready_at, campaign_id, number, token, BatchState.LEASED,
    )  # fmt: skip
    return returned == 1


def disown(db: Db, token: str) -> None:
    """Make ready again what was leased with `token`, if anything: the answer to our lease was lost."""
    db.run(
        "UPDATE batches SET state = ?, ready_at = ?, token = NULL, journal = NULL, lease_until = NULL "
        "WHERE state = ? AND token = ?",
        BatchState.READY, AT_ONCE, BatchState.LEASED, token,
    )  # fmt: skip


def renew(db: Db, lease: Lease, now: int, lease_seconds: int) -> bool:
    """Make the lease last longer; False when it is no longer ours."""
    renewed = db.run(
        "UPDATE batches SET lease_until = ? WHERE campaign_id = ? AND number = ? AND token = ? AND state = ?",
        now + lease_seconds * 1000, lease.campaign_id, lease.number, lease.token, BatchState.LEASED,
    )  # fmt: skip
    return renewed == 1


def is_held(db: Db, lease: Lease) -> bool:
    """Whether the lease is still ours, as the database says just now."""
    found = db.value(
        "SELECT 1 FROM batches WHERE campaign_id = ? AND number = ? AND token = ? AND state = ?",
        lease.campaign_id, lease.number, lease.token, BatchState.LEASED,
    )  # fmt: skip
    return found is not None
