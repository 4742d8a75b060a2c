"""Put right what crashes, lost messages and a changed clock left behind. Safe beside itself, bounded work a pass.

Every round of a dispatcher begins with it, so a lock that nobody holds any more is gone within a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from app.db import Db
from app.db.connection import Row
from app.events import warn
from app.models.schedules import RunStatus
from app.schedules.claims import LEASE_MS, STARTED, UNSTARTED, Claim, Run, advance, among, record_run
from app.schedules.times import MINUTE, Due, repaired

#: Rows read at a time, and pages of them in one pass.
PAGE = 500
PAGES = 40
#: Runs that have been kept long enough are removed this many at a time.
OLD_PAGE = 5000
#: So long after the claim, in ms, its message is in the queue, or whoever should have put it there is dead.
LOOK_MS = 30_000

INTERRUPTED = "its worker ended, or was cut off, before the run did"

#: Have the messages of claims in the queue; answers how many were not there already.
Put = Callable[[str, Sequence[Claim]], int]


@dataclass
class Swept:
    """What one pass did. `put_back`: claims whose message was missing; `renewed`: those that outlived their lock."""

    repaired: int = 0
    interrupted: int = 0
    overruns: int = 0
    put_back: int = 0
    renewed: int = 0


def repair_clock(db: Db, now: int, ttl: int) -> int:
    """Bring back what lies too far in the future, because the clock was set back; how many schedules.

    Not when it is the period claimed last that lies ahead: then the next run is where it should be.
    """
    done = 0
    for _ in range(PAGES):
        rows = db.rows(
            "SELECT user_id, next_run_at, rhythm_at, interval_minutes, period FROM user_monitor_schedules "
            "WHERE prior_at > ? AND (period IS NULL OR prior_at <> period "
            f"OR prior_at > ? + interval_minutes * {MINUTE}) ORDER BY prior_at LIMIT ?",
            now, now, PAGE,
        )  # fmt: skip
        with db.transaction():
            done += sum(_repair(db, now, *row) for row in rows)
        if len(rows) < PAGE:
            break
    if done:
        warn("schedules lay too far in the future, the clock went back: repaired", schedules=done)
    longest = max(ttl, LEASE_MS)
    db.run("UPDATE user_monitor_schedules SET locked_until = ? WHERE locked_until > ?", now + longest, now + longest)
    return done


def _repair(db: Db, now: int, user_id: int, next_run_at: int, rhythm_at: int | None, minutes: int, period: int) -> int:
    due = repaired(Due(next_run_at, rhythm_at), minutes * MINUTE, now, period)
    return db.run(
        "UPDATE user_monitor_schedules SET next_run_at = ?, rhythm_at = NULL WHERE user_id = ? AND next_run_at = ? "
        "AND interval_minutes = ?",
        due.next_run_at, user_id, next_run_at, minutes,
    )  # fmt: skip


def settle_interrupted(db: Db, now: int, user_id: int | None = None) -> int:
    """Record runs that were not renewed as interrupted, and let go of their users; how many.

    With `user_id`: the one of this user, renewed or not. They are not run again: their period has been started.
    """
    which, values = ("locked_until < ?", [now]) if user_id is None else ("user_id = ?", [user_id])
    done = 0
    for _ in range(PAGES):
        rows = db.rows(
            "SELECT user_id, locked_by, period, last_run_at, locked_until FROM user_monitor_schedules "
            f"WHERE {which} AND locked_by IS NOT NULL AND {STARTED} ORDER BY locked_until LIMIT ?",
            *values, PAGE,
        )  # fmt: skip
        done += sum(_interrupt(db, row) for row in rows)
        if len(rows) < PAGE:
            break
    return done


def _interrupt(db: Db, row: Row) -> int:
    user_id, token, period, started_at, locked_until = row
    run = Run(int(user_id), str(token), int(period), int(started_at))
    duration = max(0, int(locked_until) - LEASE_MS - run.started_at)
    with db.transaction():
        mine = db.run(
            "UPDATE user_monitor_schedules SET last_status = ?, last_error = ?, last_duration_ms = ?, "
            "interruptions = interruptions + 1, locked_by = NULL, locked_until = NULL "
            f"WHERE user_id = ? AND locked_by = ? AND locked_until = ? AND {STARTED}",
            RunStatus.INTERRUPTED, INTERRUPTED, duration, user_id, token, locked_until,
        )  # fmt: skip
        if mine:
            record_run(db, run, RunStatus.INTERRUPTED, INTERRUPTED, duration, 0)
    if mine:
        warn("run interrupted", user=run.user_id, period=run.period)
    return mine


def pass_over(db: Db, now: int) -> int:
    """Let users go on in their rhythm who are due while they still wait or run; how many runs were going.

    A period that meets a run is counted as an overrun, one that meets a claim in the queue as skipped.
    """
    # By the locks, which are few where those who are due are many: the + keeps SQLite from the other index.
    where = "locked_until > 0 AND +enabled = 1 AND +next_run_at <= ? AND locked_by IS NOT NULL"
    update, bound = "UPDATE user_monitor_schedules SET", (now, now, now, now, now)
    overruns = db.run(f"{update} overruns = overruns + 1, {advance(db)} WHERE {where} AND {STARTED}", *bound)
    db.run(f"{update} {advance(db, skipped=1)} WHERE {where} AND {UNSTARTED}", *bound)
    if overruns:
        warn("runs were still going when they were due again", users=overruns)
    return overruns


def put_back(db: Db, now: int, ttl: int, put: Put) -> tuple[int, int]:
    """Look for the message of each claim that waits: how many were missing, and how many had outlived their lock.

    A dispatcher that died between claim and enqueuing, and a Redis that forgot, cost a minute and not a lock's life.
    Token and period stay: a claim in a queue that is longer than the lock lasts would never be served otherwise.
    """
    missing = renewed = 0
    last = (0, 0)
    while True:
        rows = db.rows(
            "SELECT locked_until, user_id, locked_by, period FROM user_monitor_schedules "
            "WHERE locked_until >= ? AND locked_until < ? AND (locked_until > ? OR user_id > ?) "
            f"AND locked_by IS NOT NULL AND {UNSTARTED} ORDER BY locked_until, user_id LIMIT ?",
            last[0], now + ttl - LOOK_MS, *last, PAGE,
        )  # fmt: skip
        for token, mine in _by_token(row[1:] for row in rows).items():
            missing += put(token, mine)
        if over := [int(user_id) for until, user_id, *_ in rows if until < now]:
            these, bound = among(db, over)
            renewed += db.run(
                f"UPDATE user_monitor_schedules SET locked_until = ? WHERE user_id IN {these} AND locked_until < ? "
                f"AND {UNSTARTED}",
                now + ttl, *bound, now,
            )  # fmt: skip
        if len(rows) < PAGE:
            break
        last = (int(rows[-1][0]), int(rows[-1][1]))
    if missing:
        warn("claims had no message in the queue: enqueued again", users=missing)
    return missing, renewed


def waiting_claims(db: Db, limit: int, before: int | None = None) -> dict[str, list[Claim]]:
    """Claims that nobody has started, by token, the oldest first; with `before`: whose lock ran out before then."""
    which, values = ("locked_until > 0", []) if before is None else ("locked_until < ?", [before])
    rows = db.rows(
        f"SELECT user_id, locked_by, period FROM user_monitor_schedules WHERE {which} AND locked_by IS NOT NULL "
        f"AND {UNSTARTED} ORDER BY locked_until LIMIT ?",
        *values, limit,
    )  # fmt: skip
    return _by_token(rows)


def _by_token(rows: Iterable[Row]) -> dict[str, list[Claim]]:
    found: dict[str, list[Claim]] = {}
    for user_id, token, period in rows:
        found.setdefault(str(token), []).append(Claim(int(user_id), int(period)))
    return found


def remove_old_runs(db: Db, before: int) -> int:
    """Remove runs that began before this instant from the history; how many."""
    done = 0
    for _ in range(PAGES):
        first = db.row("SELECT id, started_at FROM schedule_runs WHERE id > 0 ORDER BY id LIMIT 1")
        if first is None or int(first[1]) >= before:
            break
        done += db.run("DELETE FROM schedule_runs WHERE id < ? AND started_at < ?", int(first[0]) + OLD_PAGE, before)
    return done
