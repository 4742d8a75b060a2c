"""What the manager decided, kept for a month: every change, and at most one row a minute and queue besides."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from app.db import Db
from app.models.counters import Counted, count

KEEP_MS = 30 * 24 * 3600 * 1000
#: A look that changed nothing is kept this often at most, in ms.
QUIET_MS = 60_000
#: While the database cannot be written, so many rows wait for it.
MOST_WAITING = 1000
#: Rows removed in one go: pruning must not hold up anything.
PRUNE_CHUNK = 1000

_COLUMNS = (
    "at", "host", "queue", "workers", "target", "backlog", "in_flight", "oldest_seconds", "rate", "bound_by", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One decision: `workers` before it, `target` after it; `at` in ms since 1970, `rate` tasks a second.

    Its inputs are None when they could not be known.
    """

    at: int
    host: str
    queue: str
    workers: int
    target: int
    backlog: int | None
    in_flight: int | None
    oldest_seconds: float | None
    rate: float | None
    bound_by: str | None
    reason: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class History:
    """Writes records, and drops those that say nothing new. What cannot be written waits for the next time."""

    def __init__(self) -> None:
        self._kept: dict[str, int] = {}
        self._waiting: list[Record] = []
        self._pruned = 0

    def keep(self, db: Db, records: list[Record]) -> int:
        """Store what is worth it, and remove what is too old; how many rows were stored. Raises DatabaseTrouble."""
        worth = [r for r in records if r.workers != r.target or r.at - self._kept.get(r.queue, 0) >= QUIET_MS]
        self._kept.update((r.queue, r.at) for r in worth)
        self._waiting = rows = [*self._waiting, *worth][-MOST_WAITING:]
        with db.transaction():
            db.run_many(
                f"INSERT INTO scaling_decisions ({', '.join(_COLUMNS)})",
                [(*(getattr(r, name) for name in _COLUMNS[:-2]), _cut(r.bound_by, 100), _cut(r.reason, 500))
                 for r in rows],
            )  # fmt: skip
            count(db, Counted.SCALING_CHANGES, Counter(way for r in rows if (way := _way(r))))
        self._waiting = []
        newest = max((r.at for r in records), default=0)
        if newest - self._pruned >= QUIET_MS:
            self._pruned = newest
            prune(db, newest - KEEP_MS)
        return len(rows)


def last_decisions(db: Db, count: int, queue: str | None = None) -> list[Record]:
    """The newest decisions, the newest last; of one queue when it is named."""
    which, names = ("WHERE queue = ? ", [queue]) if queue else ("", [])
    sql = f"SELECT {', '.join(_COLUMNS)} FROM scaling_decisions {which}ORDER BY id DESC LIMIT ?"
    return [Record(*row) for row in reversed(db.rows(sql, *names, count))]


def prune(db: Db, before: int) -> int:
    """Remove some of what is older than `before` (ms); how many rows."""
    newest = db.value(
        "SELECT MAX(id) FROM (SELECT id FROM scaling_decisions WHERE at < ? ORDER BY at, id LIMIT ?) AS old",
        before, PRUNE_CHUNK,
    )  # fmt: skip
    return db.run("DELETE FROM scaling_decisions WHERE at < ? AND id <= ?", before, newest) if newest else 0


def _way(record: Record) -> str:
    if record.target == record.workers:
        return ""
    return f"{record.queue} {'up' if record.target > record.workers else 'down'}"


def _cut(text: str | None, length: int) -> str | None:
    return None if text is None else text[:length]
