"""The life of one run in the database: claimed, queued, started, kept, ended. Each step is one conditional UPDATE.

A claim belongs to a token. A message carries user and token; whoever has it may start the run, once: the start
asks that this token still holds the user and that its period has not been started. So a message that comes twice,
or late, finds nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.db import Db
from app.models.schedules import RunStatus
from app.schedules.times import MINUTE

#: A run that was not renewed for so long, in ms, counts as given up. Queued claims have DISPATCH_LOCK_TTL instead.
LEASE_MS = 60_000
LONGEST_ERROR = 500

#: Nobody has begun what was claimed.
UNSTARTED = "(started_period IS NULL OR started_period <> period)"
#: Somebody has.
STARTED = "started_period = period"
#: What can be claimed at an instant, which is bound.
CLAIMABLE = "enabled = 1 AND locked_by IS NULL AND next_run_at <= ?"


class Claim(NamedTuple):
    """A user in the hands of a token; `period` is the instant in ms that the run is for."""

    user_id: int
    period: int


@dataclass(frozen=True)
class Run:
    """A run that has been started: nobody else can start it."""

    user_id: int
    token: str
    period: int
    started_at: int

    @property
    def lag_ms(self) -> int:
        """How late it began."""
        return self.started_at - self.period


def new_token() -> str:
    return secrets.token_hex(16)


def advance(db: Db, skipped: int = 0) -> str:
    """The SET of a schedule that goes on in its rhythm to the first instant after now, which is bound four times.

    What lies between is counted as skipped, and `skipped` more. MySQL assigns from left to right, so what is read comes
    before what is written.
    """
    interval = f"(interval_minutes * {MINUTE})"
    behind = f"COALESCE(rhythm_at, next_run_at + {interval})"
    passed = f"CASE WHEN {behind} > ? THEN 0 ELSE (? - {behind}) {db.div} {interval} + 1 END"
    return f"skipped = skipped + {skipped} + {passed}, next_run_at = {behind} + {passed} * {interval}, rhythm_at = NULL"


def claim_due(
    db: Db, token: str, now: int, ttl: int, limit: int, *, only: int | None = None, since: int = 0
) -> list[Claim]:
    """Claim up to `limit` users who are due (or that one, if he is) for `ttl` ms, the longest due first.

    Any number of callers at once: each user goes to one of them, once for each of his periods. Fewer than `limit`:
    nobody else is due. `since`: the last period of the batch before, which spares MySQL the index entries of those
    who were due and are not any more.
    """
    which, ids = ("", []) if only is None else (" AND user_id = ?", [only])
    with db.transaction():
        # Nobody else can claim or change these before we commit: SQLite has one writer, MySQL locks the rows.
        found = db.rows(
            f"SELECT user_id, next_run_at FROM user_monitor_schedules WHERE {CLAIMABLE} AND next_run_at >= ?{which} "
            f"ORDER BY next_run_at LIMIT ?{db.skip_locked}",
            now, since, *ids, limit,
        )  # fmt: skip
        if not found:
            return []
        these, bound = among(db, (user_id for user_id, _ in found))
        mine = db.run(
            "UPDATE user_monitor_schedules SET locked_by = ?, locked_until = ?, period = next_run_at, "
            # A period that was started before would never start again; the user would wait for ever.
            f"started_period = NULLIF(started_period, next_run_at), {advance(db)} WHERE user_id IN {these}",
            token, now + ttl, now, now, now, now, *bound,
        )  # fmt: skip
        assert mine == len(found), "somebody has changed rows that were locked"
    return [Claim(*row) for row in found]


def release(db: Db, token: str, user_ids: Sequence[int]) -> int:
    """Give back claims that nobody has started: their users are due again for the same period; how many."""
    interval, (these, bound) = f"(interval_minutes * {MINUTE})", among(db, user_ids)
    passed = f"((next_run_at - period - 1) {db.div} {interval})"
    return db.run(
        "UPDATE user_monitor_schedules SET "
        # Less than was counted when the interval has become shorter meanwhile.
        f"skipped = CASE WHEN skipped > {passed} THEN skipped - {passed} ELSE 0 END, "
        # As it was before: nothing, or where the rhythm goes on behind a run beside it.
        f"rhythm_at = NULLIF(next_run_at - {passed} * {interval}, period + {interval}), next_run_at = period, "
        "period = started_period, locked_by = NULL, locked_until = NULL "
        f"WHERE user_id IN {these} AND locked_by = ? AND {UNSTARTED}",
        *bound, token,
    )  # fmt: skip


def start(db: Db, user_id: int, token: str, now: int) -> Run | None:
    """Begin the run of a claim; None when it has been started, given back, or taken by somebody else."""
    mine = db.run(
        "UPDATE user_monitor_schedules SET started_period = period, last_run_at = ?, locked_until = ?, runs = runs + 1 "
        f"WHERE user_id = ? AND locked_by = ? AND {UNSTARTED}",
        now, now + LEASE_MS, user_id, token,
    )  # fmt: skip
    if not mine:
        return None
    period = db.value("SELECT period FROM user_monitor_schedules WHERE user_id = ? AND locked_by = ?", user_id, token)
    return None if period is None else Run(user_id, token, int(period), now)


def renew(db: Db, run: Run, now: int) -> bool:
    """Keep a run for another while; False when it is not ours any more."""
    mine = db.run(
        f"UPDATE user_monitor_schedules SET locked_until = ? WHERE user_id = ? AND locked_by = ? AND {STARTED}",
        now + LEASE_MS, run.user_id, run.token,
    )  # fmt: skip
    return mine == 1


def finish(db: Db, run: Run, status: RunStatus, error: str | None, duration_ms: int, checks: int) -> bool:
    """Record how a run ended and let go of its user; False, and nothing recorded, when it is not ours any more."""
    short = error[:LONGEST_ERROR] if error else None
    with db.transaction():
        mine = db.run(
            "UPDATE user_monitor_schedules SET last_status = ?, last_error = ?, last_duration_ms = ?, "
            f"locked_by = NULL, locked_until = NULL WHERE user_id = ? AND locked_by = ? AND {STARTED}",
            status, short, duration_ms, run.user_id, run.token,
        )  # fmt: skip
        if mine:
            record_run(db, run, status, short, duration_ms, checks)
    return mine == 1


def record_run(db: Db, run: Run, status: RunStatus, error: str | None, duration_ms: int, checks: int) -> None:
    """Add a run that has ended to the history, in the transaction that ended it."""
    db.run(
        "INSERT INTO schedule_runs (user_id, period, started_at, duration_ms, status, error, checks) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        run.user_id, run.period, run.started_at, duration_ms, status, error, checks,
    )  # fmt: skip


def among(db: Db, user_ids: Iterable[int]) -> tuple[str, tuple[str, ...]]:
    """What stands behind `user_id IN` for these, and what is to be bound in it.

    Ten thousand bound values would cost more than the rest. On SQLite the statement stays the same, for each that is
    not costs a connection a megabyte: it keeps a hundred of them.
    """
    ids = ", ".join(str(int(user_id)) for user_id in user_ids)
    return (f"({ids})", ()) if db.dialect == "mysql" else ("(SELECT value FROM json_each(?))", (f"[{ids}]",))
