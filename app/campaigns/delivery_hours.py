"""What was tried, by hour and server: `deliveries` summed up once nobody adds to an hour any more.

Whoever writes counts nothing further back than `OLDEST_MINUTES` (`app/campaigns/deliveries.py`), so an hour that has
been over for longer is final. Which hours are summed up, the newest says: those before it are there or were empty.
"""

from __future__ import annotations

from peewee import IntegrityError

from app.db import Db

MINUTE_MS = 60_000
HOUR_MINUTES = 60
#: An outcome that is told later counts as of so many minutes ago: past every window but the day.
OLDEST_MINUTES = 120
#: The present hour and so many before it are left to `deliveries`: longer than any writer may take.
OPEN_HOURS = 3
#: Hours summed up in one statement, and such statements in one pass: two months.
HOURS, PASSES = 24, 60
#: Where nothing else ends it: a minute after all.
EVER = 2**31 - 1

COLUMNS = ("attempts", "sent", "failed", "deferred", "unknown")
_NAMES = ", ".join(COLUMNS)
_SUMS = ", ".join(f"SUM({name})" for name in COLUMNS)


def roll_up(db: Db, now: int) -> int:
    """Sum up what is over at `now` (ms); how many rows were written. Safe beside itself, bounded work a call."""
    done, end = 0, now // MINUTE_MS // HOUR_MINUTES - OPEN_HOURS
    for _ in range(PASSES):
        first = db.value("SELECT MIN(minute) FROM deliveries WHERE minute >= ?", first_open(db) * HOUR_MINUTES)
        if first is None or (begin := int(first) // HOUR_MINUTES) >= end:
            break
        try:
            done += db.run(
                f"INSERT INTO delivery_hours (hour, server_id, {_NAMES}) "
                f"SELECT minute {db.div} {HOUR_MINUTES} AS hour, server_id, {_SUMS} FROM deliveries "
                "WHERE minute >= ? AND minute < ? GROUP BY hour, server_id",
                begin * HOUR_MINUTES, min(begin + HOURS, end) * HOUR_MINUTES,
            )  # fmt: skip
        except IntegrityError:
            break  # somebody else does it
    return done


def first_open(db: Db) -> int:
    """The first hour (since 1970) that is not summed up."""
    newest = db.value("SELECT MAX(hour) FROM delivery_hours")
    return 0 if newest is None else int(newest) + 1


def tried(db: Db, begin: int = 0, end: int = EVER) -> tuple[str, tuple[int, ...]]:
    """A table `tried` (minute, server_id and COLUMNS) of whole hours from the minute `begin` on, to before `end`.

    As SQL and the values to bind in it. What has been summed up stands under the first minute of its hour.
    """
    opened = min(first_open(db) * HOUR_MINUTES, end)
    return (
        f"(SELECT hour * {HOUR_MINUTES} AS minute, server_id, {_NAMES} FROM delivery_hours "
        f"WHERE hour >= ? AND hour < ? UNION ALL SELECT minute, server_id, {_NAMES} FROM deliveries "
        "WHERE minute >= ? AND minute < ?) AS tried",
        (begin // HOUR_MINUTES, -(-opened // HOUR_MINUTES), max(begin, opened), end),
    )


def totals(db: Db) -> dict[int, list[int]]:
    """Everything that was ever tried, by server, in the order of COLUMNS."""
    table, values = tried(db)
    rows = db.rows(f"SELECT server_id, {_SUMS} FROM {table} GROUP BY server_id", *values)
    return {int(row[0]): [int(value) for value in row[1:]] for row in rows}
