"""How all schedules stand, in a few figures. Each is counted along an index, of those only that it counts."""

from __future__ import annotations

from dataclasses import dataclass

from app.db import Db
from app.models.schedules import RunStatus
from app.schedules.answers import queue_state
from app.schedules.claims import CLAIMABLE
from app.schedules.search import STATUSES


@dataclass(frozen=True)
class Overview:
    """Counts of users; instants in ms. `failed`: some target is not as it should be; `broken`: checks were not made."""

    at: int
    due: int
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
    due, oldest = db.row(
        f"SELECT COUNT(*), MIN(next_run_at) FROM user_monitor_schedules WHERE {CLAIMABLE}", now, now
    ) or (0, None)
    queue = queue_state(db)
    return Overview(
        at=now,
        due=int(due),
        oldest_due_at=None if oldest is None else int(oldest),
        waiting=queue["waiting"],
        running=queue["active"],
        failed=_ended(db, STATUSES["failed"]),
        broken=_ended(db, STATUSES["broken"]),
        off=int(db.value("SELECT COUNT(*) FROM user_monitor_schedules WHERE enabled = 0")),
    )


def _ended(db: Db, statuses: tuple[RunStatus, ...]) -> int:
    marks = ", ".join("?" * len(statuses))
    return int(db.value(f"SELECT COUNT(*) FROM user_monitor_schedules WHERE last_status IN ({marks})", *statuses))
