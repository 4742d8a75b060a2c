"""Remove what has been kept long enough, a little at a time: each target once a day, a removed one at once.

The table of results is clustered by target, so old ones lie together and need no index of their own: an index on the
instant would be a third of the table.
"""

from __future__ import annotations

import threading
import time

from app.db import Db
from app.schedules.checks.recording import DAY_MS

#: So long the sums of a day and the outages are kept, in days.
DAYS_KEPT = 400
#: Results that one statement removes at most.
CHUNK = 5000
#: Targets that are looked at before the time is looked at.
PAGE = 200


def tidy(db: Db, now: int, results_days: int, *, seconds: float = 10.0, stop: threading.Event | None = None) -> int:
    """Remove old results of targets not tidied for a day; how many. What is left after `seconds` the next call does."""
    until, removed = time.monotonic() + seconds, 0
    while time.monotonic() < until and not (stop and stop.is_set()):
        gone = [int(row[0]) for row in db.rows("SELECT target_id FROM removed_targets LIMIT ?", PAGE)]
        due = [
            (int(row[0]), int(row[1]))
            for row in db.rows(
                "SELECT id, tidied_at FROM targets WHERE tidied_at < ? ORDER BY tidied_at LIMIT ?", now - DAY_MS, PAGE
            )
        ]
        if not gone and not due:
            break
        for target_id in gone:
            removed += _forget(db, target_id)
        for target_id, tidied_at in due:
            removed += _tidy_one(db, target_id, tidied_at, now, results_days)
    return removed


def _tidy_one(db: Db, target_id: int, tidied_at: int, now: int, results_days: int) -> int:
    removed = _remove_results(db, target_id, now - results_days * DAY_MS)
    with db.transaction():
        db.run("DELETE FROM check_days WHERE target_id = ? AND day < ?", target_id, now // DAY_MS - DAYS_KEPT)
        db.run(
            "DELETE FROM target_outages WHERE target_id = ? AND began_at < ? AND ended_at IS NOT NULL",
            target_id, now - DAYS_KEPT * DAY_MS,
        )  # fmt: skip
        db.run("UPDATE targets SET tidied_at = ? WHERE id = ? AND tidied_at = ?", now, target_id, tidied_at)
    return removed


def _forget(db: Db, target_id: int) -> int:
    """Everything of a removed target, its mark last."""
    removed = _remove_results(db, target_id, 2**63 - 1)
    with db.transaction():
        for table in ("check_days", "target_outages", "removed_targets"):
            db.run(f"DELETE FROM {table} WHERE target_id = ?", target_id)
    return removed


def _remove_results(db: Db, target_id: int, before: int) -> int:
    """Remove a target's results before an instant, `CHUNK` at a time; how many."""
    removed = 0
    while True:
        end = db.value(
            "SELECT at FROM check_results WHERE target_id = ? AND at < ? ORDER BY at LIMIT 1 OFFSET ?",
            target_id, before, CHUNK,
        )  # fmt: skip
        removed += db.run("DELETE FROM check_results WHERE target_id = ? AND at < ?", target_id, end or before)
        if end is None:
            return removed
