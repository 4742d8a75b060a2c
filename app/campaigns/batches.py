"""Lease the next batch: the campaign whose turn it is, then its oldest ready batch.

Fair sharing is start-time fair queueing (Goyal, Vin, Cheng 1996): a lease of n recipients gets
the start tag max(virtual time, the campaign's finish tag) and moves the finish tag on by
n / weight; the lowest goes first. Virtual time is the highest start tag given out, so a newcomer,
or one that waited for a server, starts where the others are now and neither starves nor rules.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from app.db import Db
from app.models.states import BatchState, CampaignStatus, RecipientState

#: The `ready_at` of what may go at once. Not "now": a clock that is set back would make it wait.
AT_ONCE = 0


@dataclass
class Lease:
    """The right to send one batch. `deadline` is in seconds by the machine's clock (`since_boot`)."""

    campaign_id: int
    number: int
    token: str
    size: int
    deadline: float
    halted: bool = field(default=False)


@dataclass(frozen=True, slots=True)
class Mail:
    """One recipient of a leased batch, with what the message needs."""

    subscriber_id: int
    email: str
    name: str
    attributes: dict[str, Any]
    subscriber_status: str
    attempts: int
    tried_at: int | None


def new_token() -> str:
    """A token for one lease: 128 random bits as 32 hex digits."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Turn:
    """A campaign that may have work; `clock` is the virtual time at which it was looked at."""

    campaign_id: int
    weight: int
    clock: float


def turns(db: Db, only: int | None = None) -> list[Turn]:
    """The sending campaigns (or `only` that one), the one whose turn it is first."""
    rows = db.rows(
        "SELECT id, weight, served_from FROM campaigns WHERE status = ? ORDER BY served, id", CampaignStatus.SENDING
    )
    clock = max((float(row[2]) for row in rows), default=0.0)
    return [Turn(int(id_), int(weight), clock) for id_, weight, _ in rows if only in (None, id_)]


def next_ready(db: Db, only: int | None, now: int) -> tuple[Turn, int, int] | None:
    """The batch to send next: its campaign's turn, its number, how many are pending in it."""
    waiting = turns(db, only)
    found = _oldest_ready(db, waiting[0], now) if waiting else None
    if found or len(waiting) < 2:
        return found
    # Hundreds may be sending and have nothing that is ready: one question for all of them. Each of these has
    # something, so the first look finds it, unless others are leasing it just now.
    ready = campaigns_with_ready(db, now)
    looks = (_oldest_ready(db, turn, now) for turn in waiting[1:] if turn.campaign_id in ready)
    return next((found for found in looks if found), None)


def campaigns_with_ready(db: Db, now: int) -> set[int]:
    """The sending campaigns with a batch that may be leased now."""
    rows = db.rows(
        # The first entry of each in the index. For `EXISTS (… ready_at <= now)` MySQL reads all that wait.
        "SELECT c.id FROM campaigns c WHERE c.status = ? AND (SELECT b.ready_at FROM batches b "
        "WHERE b.campaign_id = c.id AND b.state = ? ORDER BY b.ready_at LIMIT 1) <= ?",
        CampaignStatus.SENDING, BatchState.READY, now,
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
    db: Db, *, token: str, journal: str, only: int | None, now: int, monotonic: float, lease_seconds: int
) -> Lease | None:
    """Lease the next ready batch of the campaign whose turn it is; None when there is none now."""
    with db.transaction():
        found = next_ready(db, only, now)
        if found is None:
            return None
        turn, number, pending = found
        taken = db.run(
            "UPDATE batches SET state = ?, token = ?, settled_token = NULL, journal = ?, lease_until = ?, "
            "leased_count = leased_count + 1 WHERE campaign_id = ? AND number = ? AND state = ?",
            BatchState.LEASED, token, journal, now + lease_seconds * 1000, turn.campaign_id, number, BatchState.READY,
        )  # fmt: skip
        if taken != 1:
            return None
        # The status again: it may have been paused between the look and the lease. The tags are
        # computed from the row as it is now: others lease from the same campaign at the same time.
        start = "CASE WHEN served > ? THEN served ELSE ? END"
        tags = f"served_from = {start}, served = {start} + ?"
        values = [turn.clock] * 4 + [pending / max(1, turn.weight)]
        if only is not None:
            # A worker of one campaign takes no turns: counted, it would run virtual time ahead, and the
            # weights of those that do take turns would mean nothing.
            tags, values = "served = served", []
        going = db.run(
            f"UPDATE campaigns SET {tags} WHERE id = ? AND status = ?",
            *values, turn.campaign_id, CampaignStatus.SENDING,
        )  # fmt: skip
        if going != 1:
            hand_back(db, turn.campaign_id, number, token, AT_ONCE)
            return None
    return Lease(turn.campaign_id, number, token, pending, monotonic + lease_seconds)


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


def mails_of(db: Db, lease: Lease) -> list[Mail]:
    """The pending recipients of a leased batch."""
    rows = db.rows(
        "SELECT r.subscriber_id, s.email, s.name, s.attributes, s.status, r.attempts, r.tried_at "
        f"FROM recipients r{db.by_batch} JOIN subscribers s ON s.id = r.subscriber_id "
        "WHERE r.campaign_id = ? AND r.batch = ? AND r.state = ? ORDER BY r.subscriber_id",
        lease.campaign_id, lease.number, RecipientState.PENDING,
    )  # fmt: skip
    return [
        Mail(id_, email, name, json.loads(attributes), status, attempts, tried_at)
        for id_, email, name, attributes, status, attempts, tried_at in rows
    ]
