"""All targets of one user beside each other: the days of each, the last outages of all. One statement for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.db import Db
from app.schedules.checks.history import Day, Outage, day_of
from app.schedules.checks.recording import DAY_MS
from app.schedules.checks.store import Target, targets_of


@dataclass(frozen=True)
class Line:
    """A target and its last days, the oldest first."""

    target: Target
    days: list[Day]

    @property
    def checks(self) -> int:
        return sum(day.checks for day in self.days)

    @property
    def failures(self) -> int:
        return sum(day.failures for day in self.days)


def board(db: Db, user_id: int, days: int, now: int) -> list[Line]:
    """A user's targets by name, each with the last `days` days up to today."""
    targets, last = targets_of(db, user_id), now // DAY_MS
    if not targets:
        return []
    rows = db.rows(
        "SELECT target_id, day, checks, failures, latency_sum, latency_max FROM check_days "
        f"WHERE target_id IN ({_marks(targets)}) AND day > ? AND day <= ?",
        *(target.id for target in targets), last - days, last,
    )  # fmt: skip
    found = {(int(row[0]), int(row[1])): row[1:] for row in rows}
    numbers = range(last - days + 1, last + 1)
    return [Line(one, [day_of(number, found.get((one.id, number))) for number in numbers]) for one in targets]


def last_outages(db: Db, targets: Sequence[Target], count: int) -> list[tuple[Target, Outage]]:
    """The last `count` outages of all these targets together, the newest first; of each only so many are read."""
    if not targets:
        return []
    each = (
        "SELECT * FROM (SELECT target_id, began_at, ended_at, reason FROM target_outages WHERE target_id = ? "
        "ORDER BY began_at DESC LIMIT ?) AS t{}"
    )
    sql = " UNION ALL ".join(each.format(number) for number in range(len(targets)))
    rows = db.rows(sql, *(value for target in targets for value in (target.id, count)))
    by_id = {target.id: target for target in targets}
    newest = sorted(rows, key=lambda row: int(row[1]), reverse=True)[:count]
    return [(by_id[int(row[0])], Outage(*row[1:])) for row in newest]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
