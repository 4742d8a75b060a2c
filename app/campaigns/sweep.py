"""The sweep: put right what a crash left behind. Safe beside itself, bounded work per pass.

A lease that ran out makes nothing sendable. Only proof that its owner is dead does: the lock on
the owner's journal, granted. Then every mail is settled as the journal says: tried and answered as
recorded, untried ready again, in doubt `unknown`, which nobody sends again unless a person says so.
Only the owner's own host can ask for that lock. When that host has been silent for too long, any
other settles in its stead, and as nobody can say what was tried, everything becomes `unknown`.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.campaigns.cancelling import PASS_SECONDS, skip_rest, with_rest
from app.campaigns.expansion import LEASE_MS as EXPANSION_LEASE_MS
from app.campaigns.finish import try_finish
from app.campaigns.journal import host_name, name_parts, of_this_life, process_start, read_dead, read_owner
from app.campaigns.settling import LOST_JOURNAL, all_unknown, as_recorded, leases_of, settle, speak_late
from app.config import HOST_GONE_SECONDS
from app.db import Db
from app.events import emit, warn
from app.models.states import CAMPAIGN_EXPANDS, BatchState, CampaignStatus, ExpansionState

#: Leases settled per pass.
MAX_LEASES = 200
#: Campaigns finished, and expansions enqueued again, per pass.
MAX_CAMPAIGNS = 100
#: Journals of dead workers read for removal per pass: each has some megabytes.
MAX_JOURNALS = 20
#: A journal that never got its name is removed after so long, in seconds: its maker has died.
UNNAMED_SECONDS = 3600


@dataclass
class Swept:
    """What one pass did."""

    settled: int = 0
    owners_killed: int = 0
    finished: int = 0
    expansions: int = 0
    skipped: int = 0


def sweep(
    db: Db,
    journals: Path,
    now: int,
    lease_seconds: int,
    restart_expansion: Callable[[int], object],
    host_gone_seconds: int = HOST_GONE_SECONDS,
) -> Swept:
    """One pass. `restart_expansion(campaign_id)` enqueues the expansion of a campaign."""
    done = Swept()
    for journal in _expired(db, now):
        if done.settled >= MAX_LEASES:
            break
        try:
            _settle_journal(db, journals, journal, now, lease_seconds, host_gone_seconds, done)
        except (OSError, ValueError) as error:
            # A journal that cannot be read keeps its own batches waiting, and no other.
            warn("leases cannot be settled", journal=journal, reason=str(error))
    for campaign_id in _stalled_expansions(db, now):
        restart_expansion(campaign_id)
        done.expansions += 1
    for campaign_id in _finishable(db):
        done.finished += try_finish(db, campaign_id, now)
    for campaign_id in with_rest(db, MAX_CAMPAIGNS):
        done.skipped += skip_rest(db, campaign_id, now, PASS_SECONDS)
    _remove_dead_journals(db, journals, now)
    return done


def _expired(db: Db, now: int) -> list[str]:
    """The journals whose owners let a lease run out, the longest ago first.

    All of them, so that leases which must wait never stand before those that need not; there are
    no more than workers.
    """
    rows = db.rows(
        "SELECT journal, MIN(lease_until) FROM batches WHERE state = ? AND lease_until < ? "
        "GROUP BY journal ORDER BY MIN(lease_until)",
        BatchState.LEASED, now,
    )  # fmt: skip
    return [str(journal) for journal, _ in rows]


def _settle_journal(
    db: Db, journals: Path, journal: str, now: int, lease_seconds: int, host_gone_seconds: int, done: Swept
) -> None:
    """Settle what the owner of one journal let run out, if that may be done yet."""
    room = MAX_LEASES - done.settled
    if name_parts(journal).host != host_name():
        _settle_for_a_host(db, journal, now, host_gone_seconds, room, done)
        return
    path = journals / journal
    try:
        slots = read_dead(path)
    except FileNotFoundError:
        if not of_this_life(journal, journals):
            # Of another home, of a host with the same name, or of this one before it lost its disk.
            _settle_for_a_host(db, journal, now, host_gone_seconds, room, done)
            return
        for lease in leases_of(db, journal, now, room):
            done.settled += settle(db, lease, all_unknown(db, lease, LOST_JOURNAL, now), now)
        return
    if slots is None:
        done.owners_killed += _kill_if_stopped(path, lease_seconds)
        return
    by_token = {slot.token: slot for slot in slots}
    trusted = name_parts(journal).is_of_this_boot
    for lease in leases_of(db, journal, now, room):
        outcomes = as_recorded(db, lease, by_token.get(lease.token), trusted, now)
        done.settled += settle(db, lease, outcomes, now)


def _settle_for_a_host(db: Db, journal: str, now: int, host_gone_seconds: int, room: int, done: Swept) -> None:
    """Settle in the stead of a host that has renewed nothing for so long that it counts as gone."""
    host = name_parts(journal).host
    reason = f"its host {host} has been silent for more than {host_gone_seconds} s; not sent again"
    for lease in leases_of(db, journal, now - host_gone_seconds * 1000, room):
        done.settled += settle(db, lease, all_unknown(db, lease, reason, now), now)


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
        "WHERE e.state = ? AND e.lease_until < ? AND e.updated_at < ? AND c.status IN (?, ?) "
        "ORDER BY e.updated_at LIMIT ?",
        ExpansionState.RUNNING, now, now - EXPANSION_LEASE_MS, *sorted(CAMPAIGN_EXPANDS), MAX_CAMPAIGNS,
    )  # fmt: skip
    return [
        int(campaign_id)
        for (campaign_id,) in rows
        if db.run(
            "UPDATE expansions SET updated_at = ? WHERE campaign_id = ? AND lease_until < ? AND updated_at < ?",
            now, campaign_id, now, now - EXPANSION_LEASE_MS,
        )
    ]  # fmt: skip


def _finishable(db: Db) -> list[int]:
    """Sending campaigns with nothing left to do: whoever ended their last batch did not come to say so."""
    rows = db.rows(
        "SELECT c.id FROM campaigns c JOIN expansions e ON e.campaign_id = c.id WHERE c.status = ? AND e.state = ? "
        "AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.campaign_id = c.id AND b.state IN (?, ?)) LIMIT ?",
        CampaignStatus.SENDING, ExpansionState.DONE, BatchState.READY, BatchState.LEASED, MAX_CAMPAIGNS,
    )  # fmt: skip
    return [int(campaign_id) for (campaign_id,) in rows]


def _remove_dead_journals(db: Db, journals: Path, now: int) -> None:
    """Delete the journals of dead workers that no lease refers to any more."""
    named = {row[0] for row in db.rows("SELECT DISTINCT journal FROM batches WHERE state = ?", BatchState.LEASED)}
    found = [path for path in journals.glob(f"{host_name()}~*.journal") if path.name not in named]
    # In any order, so that some that cannot be read do not keep the rest for ever.
    random.shuffle(found)
    read = 0
    for path in found:
        try:
            slots = read_dead(path)
            if slots is None:
                continue
            read += 1
            if not _has_lease(db, path.name):
                for slot in slots:
                    speak_late(db, slot, now)
                path.unlink(missing_ok=True)
                emit("journal of a dead worker removed", journal=path.name)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            warn("journal cannot be read", journal=path.name, reason=str(error))
            read += 1
        if read >= MAX_JOURNALS:
            break
    _remove_unnamed(journals)


def _remove_unnamed(journals: Path) -> None:
    for path in journals.glob(f"{host_name()}~*.new"):
        try:
            if time.time() - path.stat().st_mtime > UNNAMED_SECONDS and read_dead(path) is not None:
                path.unlink(missing_ok=True)
        except (OSError, ValueError) as error:
            warn("journal cannot be removed", journal=path.name, reason=str(error))


def _has_lease(db: Db, journal: str) -> bool:
    """Asked after the lock was granted: a dead worker takes no new lease."""
    return (
        db.value("SELECT 1 FROM batches WHERE state = ? AND journal = ? LIMIT 1", BatchState.LEASED, journal)
        is not None
    )
