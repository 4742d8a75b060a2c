"""The sweep: put right what a crash left behind. Safe beside itself, bounded work per pass.

A lease that ran out makes nothing sendable. Only proof that its owner is dead does: the lock on
the owner's journal, granted. Then every mail is settled as the journal says: tried and answered as
recorded, untried ready again, in doubt `unknown`, which nobody sends again unless a person says so.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.campaigns.batches import AT_ONCE
from app.campaigns.expansion import LEASE_MS as EXPANSION_LEASE_MS
from app.campaigns.finish import try_finish
from app.campaigns.journal import (
    Entry,
    MailState,
    SlotRecord,
    boot_id,
    host_name,
    process_start,
    read_dead,
    read_owner,
)
from app.campaigns.outcomes import CRASH_REASON, MAX_CRASHES, Outcome, write_outcomes
from app.db import Db
from app.events import emit, warn
from app.models.states import BatchState, CampaignStatus, ExpansionState, RecipientState

#: Leases settled per pass.
MAX_LEASES = 200
NO_RECORD = "its worker ended while the server may already have had it; not sent again"
LOST_JOURNAL = "the journal of its worker is gone (host lost or rebooted); not sent again"

_RECORDED = {
    MailState.SENT: RecipientState.SENT,
    MailState.FAILED: RecipientState.FAILED,
    MailState.SKIPPED: RecipientState.SKIPPED,
    MailState.IN_DOUBT: RecipientState.UNKNOWN,
    MailState.DEFERRED: RecipientState.PENDING,
}


@dataclass(frozen=True)
class ExpiredLease:
    campaign_id: int
    number: int
    token: str
    journal: str
    lease_until: int


@dataclass
class Swept:
    """What one pass did."""

    settled: int = 0
    owners_killed: int = 0
    finished: int = 0
    expansions: int = 0


def sweep(db: Db, journals: Path, now: int, lease_seconds: int, restart_expansion: Callable[[int], object]) -> Swept:
    """One pass. `restart_expansion(campaign_id)` enqueues the expansion of a campaign."""
    done = Swept()
    for lease in _expired(db, now):
        try:
            _settle_one(db, journals, lease, now, lease_seconds, done)
        except (OSError, ValueError) as error:
            # A journal that cannot be read keeps its own batch waiting, and no other.
            warn("lease cannot be settled", batch=lease.number, journal=lease.journal, reason=str(error))
    for campaign_id in _stalled_expansions(db, now):
        restart_expansion(campaign_id)
        done.expansions += 1
    for (campaign_id,) in db.rows("SELECT id FROM campaigns WHERE status = ?", CampaignStatus.SENDING):
        done.finished += try_finish(db, campaign_id, now)
    _remove_dead_journals(db, journals)
    return done


def _expired(db: Db, now: int) -> list[ExpiredLease]:
    rows = db.rows(
        "SELECT campaign_id, number, token, journal, lease_until FROM batches "
        "WHERE state = ? AND lease_until < ? ORDER BY lease_until LIMIT ?",
        BatchState.LEASED, now, MAX_LEASES,
    )  # fmt: skip
    return [ExpiredLease(*row) for row in rows]


def _settle_one(db: Db, journals: Path, lease: ExpiredLease, now: int, lease_seconds: int, done: Swept) -> None:
    host, boot, *_ = lease.journal.split("~")
    if host != host_name():
        return
    path = journals / lease.journal
    try:
        slots = read_dead(path)
    except FileNotFoundError:
        done.settled += _settle(db, lease, _all_unknown(db, lease, now), now)
        return
    if slots is None:
        done.owners_killed += _kill_if_stopped(path, lease_seconds)
        return
    slot = next((s for s in slots if s.token == lease.token), None)
    trusted = boot == boot_id()
    done.settled += _settle(db, lease, _outcomes(db, lease, slot, trusted, now), now)


def _settle(db: Db, lease: ExpiredLease, outcomes: list[Outcome], now: int) -> bool:
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


def _outcomes(db: Db, lease: ExpiredLease, slot: SlotRecord | None, trusted: bool, now: int) -> list[Outcome]:
    """What the journal says of a lease; without a slot of its own nothing of it was tried.

    Of a journal from before a reboot only what it proves is taken: the disk may hold older pages,
    so that a mail without an outcome is unknown, never untried.
    """
    entries = slot.entries if slot else []
    recorded = [_outcome(db, lease, entry, now) for entry in entries if entry.state is not MailState.UNTRIED]
    if trusted:
        return recorded
    proven = [o for o in recorded if o.state in (RecipientState.SENT, RecipientState.FAILED)]
    known = {o.subscriber_id for o in proven}
    return proven + [o for o in _all_unknown(db, lease, now) if o.subscriber_id not in known]


def _outcome(db: Db, lease: ExpiredLease, entry: Entry, now: int) -> Outcome:
    note = entry.note
    if entry.state is MailState.COMPOSING:
        crashes = db.value(
            "SELECT crashes FROM recipients WHERE campaign_id = ? AND subscriber_id = ?",
            lease.campaign_id, entry.subscriber_id,
        )  # fmt: skip
        final = int(crashes or 0) + 1 >= MAX_CRASHES
        state = RecipientState.FAILED if final else RecipientState.PENDING
        return Outcome(entry.subscriber_id, state, None, CRASH_REASON if final else "", now, False, crashed=True)
    if entry.state is MailState.SENDING:
        return Outcome(entry.subscriber_id, RecipientState.UNKNOWN, None, NO_RECORD, now)
    state = _RECORDED[entry.state]
    server = note.server_id or None
    return Outcome(entry.subscriber_id, state, server, note.reply, note.tried_at, note.attempt)


def _all_unknown(db: Db, lease: ExpiredLease, now: int) -> list[Outcome]:
    rows = db.rows(
        f"SELECT subscriber_id FROM recipients{db.by_batch} WHERE campaign_id = ? AND batch = ? AND state = ?",
        lease.campaign_id, lease.number, RecipientState.PENDING,
    )  # fmt: skip
    return [Outcome(int(i), RecipientState.UNKNOWN, None, LOST_JOURNAL, now) for (i,) in rows]


def _kill_if_stopped(path: Path, lease_seconds: int) -> bool:
    """End an owner that has not run for a whole lease, so that its mails can be settled.

    One that runs but could not renew (the database was away) is left to finish by itself.
    """
    owner = read_owner(path)
    if owner.silent_seconds < lease_seconds or owner.pid == os.getpid():
        return False
    if owner.started == 0 or process_start(owner.pid) != owner.started:
        return False
    warn("worker stopped while holding a lease: it is ended", owner_pid=owner.pid)
    try:
        os.kill(owner.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _stalled_expansions(db: Db, now: int) -> list[int]:
    """The campaigns whose expansion nobody works on; each is handed out once per claim's length."""
    rows = db.rows(
        "SELECT e.campaign_id FROM expansions e JOIN campaigns c ON c.id = e.campaign_id "
        "WHERE e.state = ? AND e.lease_until < ? AND e.updated_at < ? AND c.status = ?",
        ExpansionState.RUNNING, now, now - EXPANSION_LEASE_MS, CampaignStatus.SENDING,
    )  # fmt: skip
    return [
        int(campaign_id)
        for (campaign_id,) in rows
        if db.run(
            "UPDATE expansions SET updated_at = ? WHERE campaign_id = ? AND lease_until < ? AND updated_at < ?",
            now, campaign_id, now, now - EXPANSION_LEASE_MS,
        )
    ]  # fmt: skip


def _remove_dead_journals(db: Db, journals: Path) -> None:
    """Delete the journals of dead workers that no lease refers to any more."""
    named = {row[0] for row in db.rows("SELECT DISTINCT journal FROM batches WHERE state = ?", BatchState.LEASED)}
    for path in journals.glob(f"{host_name()}~*.journal"):
        if path.name in named:
            continue
        try:
            if read_dead(path) is not None and not _has_lease(db, path.name):
                path.unlink(missing_ok=True)
                emit("journal of a dead worker removed", journal=path.name)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            warn("journal cannot be read", journal=path.name, reason=str(error))


def _has_lease(db: Db, journal: str) -> bool:
    """Asked after the lock was granted: a dead worker takes no new lease."""
    return (
        db.value("SELECT 1 FROM batches WHERE state = ? AND journal = ? LIMIT 1", BatchState.LEASED, journal)
        is not None
    )
