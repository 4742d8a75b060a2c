"""How all schedules stand, in a few figures. Each is counted along an index, of those only that it counts."""

from __future__ import annotations

from dataclasses import dataclass

from app.db import Db
from app.models.schedules import RunStatus
from app.schedules.answers import queue_state
from app.schedules.claims import CLAIMABLE
from app.schedules.search import LATE_MS, STATUSES


@dataclass(frozen=True)
class Overview:
    """Counts of users; instants in ms. `late`: those of `due` who have been so for too long.

    `failed`: some target is not as it should be; `broken`: checks were not made.
    """

    at: int
    due: int
    late: int
    oldest_due_at: int | None
    waiting: int
    running: int
    failed: int
    broken: int
    off: int

    @property
    def lag_ms(self) -> int:
        """How long the longest has been due whom nobody has claimed."""
        return 0 if self.oldest_due_at is None else max(0, self.at - self.oldest_due_at)


def overview(db: Db, now: int) -> Overview:
    """The figures at `now`."""
    oldest = db.value(
        f"SELECT next_run_at FROM user_monitor_schedules WHERE {CLAIMABLE} ORDER BY next_run_at LIMIT 1", now
    )
    queue = queue_state(db)
    return Overview(
        at=now,
        due=_due(db, now),
        late=_due(db, now - LATE_MS),
        oldest_due_at=None if oldest is None else int(oldest),
        waiting=queue["waiting"],
        running=queue["active"],
        failed=_ended(db, STATUSES["failed"]),
        broken=_ended(db, STATUSES["broken"]),
        off=int(db.value("SELECT COUNT(*) FROM user_monitor_schedules WHERE enabled = 0")),
    )


def _due(db: Db, now: int) -> int:
    """Whoever was due at an instant and is still, without those whom somebody has.

    Both come from an index alone or from the few who are locked.
    """
    due = "enabled = 1 AND next_run_at <= ?"
    every = db.value(f"SELECT COUNT(*) FROM user_monitor_schedules WHERE {due}", now)
    taken = db.value(f"SELECT COUNT(*) FROM user_monitor_schedules WHERE locked_until IS NOT NULL AND {due}", now)
    return max(0, int(every) - int(taken))


def _ended(db: Db, statuses: tuple[RunStatus, ...]) -> int:
    marks = ", ".join("?" * len(statuses))
    return int(db.value(f"SELECT COUNT(*) FROM user_monitor_schedules WHERE last_status IN ({marks})", *statuses))
