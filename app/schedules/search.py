"""Find users among a hundred thousand: all, by how the address begins, or by how their schedules stand.

Each way follows an index, so a page costs what it shows. A page begins behind the user who ended the last one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from heapq import merge
from itertools import islice

from app.db import Db
from app.db.parts import lower_bound
from app.errors import UsageError
from app.models.schedules import RunStatus, Schedule, ScheduleState, User
from app.schedules.store import Shown

#: Whoever has been due for so long, in ms, is late: a dispatcher comes by every minute.
LATE_MS = 120_000
#: Behind every text that begins with another one.
_LAST = "\U0010ffff"
LONGEST = 320
#: A place: the last user's id; where the order is another one, also that user's value in it.
PLACE = r"(?:(\d{1,18})\.)?(\d{1,18})"

#: The statuses that a standing means: some target is not as it should be; the checks were not made.
STATUSES = {"failed": (RunStatus.FAILED,), "broken": (RunStatus.ERROR, RunStatus.INTERRUPTED)}
#: Due for long and claimed by nobody; waiting in the queue or running; how the last run ended; switched off.
STANDINGS = ("late", "busy", *STATUSES, "off")

_Place = tuple[int, int]
#: (value in the order, user's id), in the order; those behind a place, so many at most.
_Walk = Callable[[_Place, int], list[_Place]]


@dataclass(frozen=True)
class Page:
    """`after` leads to the next page, None on the last."""

    found: list[Shown]
    after: str | None


def find_schedules(db: Db, limit: int, now: int, *, email: str = "", standing: str = "", after: str = "") -> Page:
    """Up to `limit` users whose address begins so, by address, or who stand so; all of them by id.

    Raises UsageError for a standing or a place that is none, and for both ways of searching at once.
    """
    begins = email.strip().casefold()[:LONGEST]
    if standing and standing not in STANDINGS:
        raise UsageError(f"standing={standing!r} is not known: {', '.join(STANDINGS)}")
    if standing and begins:
        raise UsageError("search by the beginning of the address or by standing, not by both")
    place = _read(after)
    if begins:
        walk = _by_address(db, begins)
    elif standing:
        walk = _by_standing(db, standing, now)
    else:
        walk = _by_id(db)
    places = walk(place, limit + 1)
    more = len(places) > limit
    return Page(_shown([id_ for _, id_ in places[:limit]]), _written(places[limit - 1]) if more else None)


def late_ms(one: Schedule, now: int) -> int | None:
    """How long somebody has been due whom no dispatcher has claimed, once that is too long; else None."""
    waits = now - one.next_run_at
    return waits if one.state is ScheduleState.IDLE and waits >= LATE_MS else None


def _by_id(db: Db) -> _Walk:
    return lambda place, limit: [
        (0, int(row[0])) for row in db.rows("SELECT id FROM users WHERE id > ? ORDER BY id LIMIT ?", place[1], limit)
    ]


def _by_address(db: Db, begins: str) -> _Walk:
    def walk(place: _Place, limit: int) -> list[_Place]:
        behind = db.value("SELECT email_key FROM users WHERE id = ?", place[1]) or ""
        above, first = lower_bound(begins, behind)
        rows = db.rows(
            f"SELECT id FROM users WHERE email_key {above} ? AND email_key < ? ORDER BY email_key LIMIT ?",
            first, begins + _LAST, limit,
        )  # fmt: skip
        return [(0, int(row[0])) for row in rows]

    return walk


def _by_standing(db: Db, standing: str, now: int) -> _Walk:
    if standing == "late":
        late = "enabled = 1 AND next_run_at <= ? AND locked_by IS NULL"
        return _in_order_of(db, "next_run_at", late, now - LATE_MS)
    if standing == "busy":
        return _in_order_of(db, "locked_until", "locked_until IS NOT NULL")
    if standing == "off":
        return _in_order_of(db, "next_run_at", "enabled = 0")
    walks = [_of_status(db, status) for status in STATUSES[standing]]
    return lambda place, limit: list(islice(merge(*(walk(place, limit) for walk in walks)), limit))


def _in_order_of(db: Db, column: str, which: str, *values: int) -> _Walk:
    def walk(place: _Place, limit: int) -> list[_Place]:
        rows = db.rows(
            f"SELECT {column}, user_id FROM user_monitor_schedules WHERE {which} AND {column} >= ? "
            f"AND ({column} > ? OR user_id > ?) ORDER BY {column}, user_id LIMIT ?",
            *values, place[0], *place, limit,
        )  # fmt: skip
        return [(int(value), int(user_id)) for value, user_id in rows]

    return walk


def _of_status(db: Db, status: str) -> _Walk:
    return lambda place, limit: [
        (0, int(row[0]))
        for row in db.rows(
            "SELECT user_id FROM user_monitor_schedules WHERE last_status = ? AND user_id > ? ORDER BY user_id LIMIT ?",
            status, place[1], limit,
        )
    ]  # fmt: skip


def _shown(ids: list[int]) -> list[Shown]:
    users = {user.id: user for user in User.select().where(User.id.in_(ids))}
    schedules = {one.user_id: one for one in Schedule.select().where(Schedule.user_id.in_(ids))}
    return [Shown(users[id_], schedules[id_]) for id_ in ids if id_ in users and id_ in schedules]


def _written(place: _Place) -> str:
    return f"{place[0]}.{place[1]}" if place[0] else str(place[1])


def _read(after: str) -> _Place:
    if not after:
        return 0, 0
    found = re.fullmatch(PLACE, after, re.ASCII)
    if not found:
        raise UsageError(f"after={after[:40]!r} leads nowhere: take it from the last page as it is")
    return int(found[1] or 0), int(found[2])
