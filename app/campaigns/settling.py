"""Settle a lease whose owner cannot end it any more: what its journal says, and `unknown` where it says nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.campaigns.batches import AT_ONCE
from app.campaigns.journal import Entry, MailState, SlotRecord
from app.campaigns.outcomes import CRASH_REASON, MAX_CRASHES, Outcome, correct_unknown, write_outcomes
from app.db import Db
from app.events import emit, warn
from app.models.states import BatchState, RecipientState

NO_RECORD = "its worker ended while the server may already have had it; not sent again"
LOST_JOURNAL = "the journal of its worker is gone (host lost or rebooted); not sent again"

_RECORDED = {
    MailState.SENT: RecipientState.SENT,
    MailState.FAILED: RecipientState.FAILED,
    MailState.SKIPPED: RecipientState.SKIPPED,
    MailState.IN_DOUBT: RecipientState.UNKNOWN,
    MailState.DEFERRED: RecipientState.PENDING,
}
_PROVEN = frozenset({MailState.SENT, MailState.FAILED})


@dataclass(frozen=True)
class ExpiredLease:
    """A lease that ran out; `lease_until` in ms by the database's clock."""

    campaign_id: int
    number: int
    token: str
    lease_until: int


def leases_of(db: Db, journal: str, before: int, limit: int) -> list[ExpiredLease]:
    """The leases of a journal's owner that ran out before an instant (ms), the oldest first."""
    rows = db.rows(
        "SELECT campaign_id, number, token, lease_until FROM batches "
        "WHERE state = ? AND lease_until < ? AND journal = ? ORDER BY lease_until LIMIT ?",
        BatchState.LEASED, before, journal, limit,
    )  # fmt: skip
    return [ExpiredLease(*row) for row in rows]


def settle(db: Db, lease: ExpiredLease, outcomes: Sequence[Outcome], now: int) -> bool:
    """End the lease with these outcomes; what is not among them is ready again. False: someone else was faster."""
    settled = write_outcomes(
        db, lease.campaign_id, lease.number, lease.token, outcomes, now=now, ready_at=AT_ONCE, settling=True
    )
    if settled:
        unknown = sum(o.state is RecipientState.UNKNOWN for o in outcomes)
        warn(
            "lease of a dead worker settled",
            campaign_id=lease.campaign_id, batch=lease.number, recorded=len(outcomes) - unknown, unknown=unknown,
        )  # fmt: skip
    return settled


def as_recorded(db: Db, lease: ExpiredLease, slot: SlotRecord | None, trusted: bool, now: int) -> list[Outcome]:
    """What the journal says of a lease; without a slot of its own nothing of it was tried.

    Of a journal from before a reboot (not `trusted`) only what it proves is taken: the disk may hold
    older pages, so that a mail without an outcome is unknown, never untried.
    """
    entries = slot.entries if slot else []
    if trusted:
        server = slot.server_id or None if slot else None
        return [_outcome(db, lease, entry, server, now) for entry in entries if entry.state is not MailState.UNTRIED]
    proven = _proven(entries)
    known = {o.subscriber_id for o in proven}
    return proven + [o for o in all_unknown(db, lease, LOST_JOURNAL, now) if o.subscriber_id not in known]


def all_unknown(db: Db, lease: ExpiredLease, reason: str, now: int) -> list[Outcome]:
    """Every pending mail of the lease in doubt: nobody can say which were tried."""
    rows = db.rows(
        f"SELECT subscriber_id FROM recipients{db.by_batch} WHERE campaign_id = ? AND batch = ? AND state = ?",
        lease.campaign_id, lease.number, RecipientState.PENDING,
    )  # fmt: skip
    return [Outcome(int(i), RecipientState.UNKNOWN, None, reason, now) for (i,) in rows]


def speak_late(db: Db, slot: SlotRecord, now: int) -> None:
    """Say for a dead owner what its journal proves, of a lease that was settled without the journal."""
    proven = _proven(slot.entries)
    if proven and correct_unknown(db, slot.campaign_id, slot.batch, slot.token, proven, now):
        emit("a settled lease was corrected from its journal", campaign_id=slot.campaign_id, batch=slot.batch)


def _proven(entries: Sequence[Entry]) -> list[Outcome]:
    return [_answered(entry) for entry in entries if entry.state in _PROVEN]


def _outcome(db: Db, lease: ExpiredLease, entry: Entry, server: int | None, now: int) -> Outcome:
    if entry.state is MailState.COMPOSING:
        crashes = db.value(
            "SELECT crashes FROM recipients WHERE campaign_id = ? AND subscriber_id = ?",
            lease.campaign_id, entry.subscriber_id,
        )  # fmt: skip
        final = int(crashes or 0) + 1 >= MAX_CRASHES
        state = RecipientState.FAILED if final else RecipientState.PENDING
        return Outcome(entry.subscriber_id, state, None, CRASH_REASON if final else "", now, False, crashed=True)
    if entry.state is MailState.SENDING:
        return Outcome(entry.subscriber_id, RecipientState.UNKNOWN, server, NO_RECORD, now)
    return _answered(entry)


def _answered(entry: Entry) -> Outcome:
    note = entry.note
    server = note.server_id or None
    return Outcome(entry.subscriber_id, _RECORDED[entry.state], server, note.reply, note.tried_at, note.attempt)
