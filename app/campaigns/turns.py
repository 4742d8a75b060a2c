"""Whose turn it is: fair sharing between campaigns, by weight, whatever their sizes.

Start-time fair queueing (Goyal, Vin, Cheng 1996): a lease of n recipients gets a start tag and moves the campaign's
finish tag `served` on by n / weight; the lowest goes first. When the lease ends, the tag is put right for what was
really dealt with.

A campaign that has had something ready ever since its last lease (`queued`) keeps its tag, also while it is held: by
their tags those that wait for the same server are told apart when it can be used again. A newcomer, or one that had
nothing ready meanwhile, starts where the others are. Each of its servers has a level, the lowest start tag of those
queued there: behind a slow server tags are lower than behind a fast one. It starts at the highest of these levels, that
of the server where it is served soonest, and so neither waits behind the others nor catches up with them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from app.db import Db
from app.models.states import BatchState, CampaignStatus

#: Behind every finish tag; MySQL knows no infinity.
LAST = 1e300
#: What must be so of the sender of a campaign `c` of which anything is sent.
SENDER_MAY = "NOT EXISTS (SELECT 1 FROM paused_senders p WHERE p.sender = LOWER(c.envelope_sender))"
#: What must be so of a campaign `c` of which a batch may be leased; binds SENDING and an instant.
MAY_LEASE = f"c.status = ? AND c.held_until <= ? AND {SENDER_MAY}"

_HAS_READY = "EXISTS (SELECT 1 FROM batches b WHERE b.campaign_id = ? AND b.state = ? AND b.ready_at <= ?)"


@dataclass(frozen=True)
class Turn:
    """A campaign that may have work, as it was when it was looked at.

    `until`: it is its turn as long as its finish tag is not behind this one, that of the next in the line.
    """

    campaign_id: int
    weight: int
    queued: bool
    until: float


def turns(db: Db, now: int, only: int | None = None, leave: Collection[int] = ()) -> list[Turn]:
    """The campaigns that may be leased from (or `only` that one, none of `leave`), the one whose turn it is first."""
    rows = db.rows(
        f"SELECT c.id, c.weight, c.queued, c.served FROM campaigns c WHERE {MAY_LEASE} ORDER BY c.served, c.id",
        CampaignStatus.SENDING, now,
    )  # fmt: skip
    chosen = [row for row in rows if only in (None, row[0]) and row[0] not in leave]
    ends = [*(float(row[3]) for row in chosen[1:]), LAST]
    return [
        Turn(int(id_), int(weight), bool(queued), until)
        for (id_, weight, queued, _), until in zip(chosen, ends, strict=False)
    ]


def take_turn(db: Db, turn: Turn, recipients: int, now: int, *, anyhow: bool = False) -> bool:
    """Charge a lease to its campaign; False when it may not be leased from any more, or when it is another's turn.

    The tags are computed from the row as it is now: others lease from the same campaign at the same time. So many may
    have seen that it is its turn that it is not any more; `anyhow`: then it is taken all the same.
    """
    start = "served"
    levels: list[float] = []
    if not turn.queued:
        start = "CASE WHEN served > ? THEN served ELSE ? END"
        levels = [_level(db, turn.campaign_id)] * 2
    # `served_from` first: MySQL computes an assignment from the values that those before it made.
    taken = db.run(
        f"UPDATE campaigns AS c SET served_from = {start}, served = {start} + ?, "
        f"queued = CASE WHEN {_HAS_READY} THEN 1 ELSE 0 END WHERE c.id = ? AND {MAY_LEASE} AND c.served <= ?",
        *levels, *levels, recipients / max(1, turn.weight), turn.campaign_id, BatchState.READY, now,
        turn.campaign_id, CampaignStatus.SENDING, now, LAST if anyhow else turn.until,
    )  # fmt: skip
    return taken == 1


def may_lease(db: Db, campaign_id: int, now: int) -> bool:
    """Whether batches of a campaign may be leased; nobody changes that before this transaction ends.

    For those that take no turns: counted, a worker of one campaign would run ahead, and the weights of those
    that do take turns would mean nothing.
    """
    allowed = db.run(
        f"UPDATE campaigns AS c SET served = served WHERE c.id = ? AND {MAY_LEASE}",
        campaign_id, CampaignStatus.SENDING, now,
    )  # fmt: skip
    return allowed == 1


def correct_turn(db: Db, campaign_id: int, refund: float, now: int) -> None:
    """Take off again what was charged for recipients that were not tried; below 0: charge more.

    Whoever hands something back that may go at once has had something ready all the time.
    """
    db.run(
        f"UPDATE campaigns SET served = served - ?, queued = CASE WHEN status = ? AND {_HAS_READY} THEN 1 ELSE queued "
        "END WHERE id = ?",
        refund, CampaignStatus.SENDING, campaign_id, BatchState.READY, now, campaign_id,
    )  # fmt: skip


def _level(db: Db, campaign_id: int) -> float:
    """Where a campaign starts that is new among the others."""
    found = db.value(
        "SELECT MAX(level) FROM (SELECT COALESCE("
        "MIN(CASE WHEN c.queued = 0 THEN NULL WHEN c.served < c.served_from THEN c.served ELSE c.served_from END), "
        "MAX(c.served_from)) AS level FROM campaign_servers mine "
        "JOIN campaign_servers cs ON cs.server_id = mine.server_id "
        "JOIN campaigns c ON c.id = cs.campaign_id AND c.id <> mine.campaign_id AND c.status = ? "
        "WHERE mine.campaign_id = ? GROUP BY mine.server_id) AS levels",
        CampaignStatus.SENDING, campaign_id,
    )  # fmt: skip
    return float(found or 0.0)
