"""What the tests of schedules share: users by the dozen, checks that only say that they were made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.config import Settings
from app.db import Db
from app.models.schedules import Schedule

NOW = 1_790_000_000_000
#: By so many ms a test's present may be ahead of a request's: MySQL's clock is asked once a second, and answers late.
SLACK_MS = 5_000


@dataclass(frozen=True)
class Said:
    """A report of checks."""

    status: str = "ok"
    error: str | None = None
    checks: int = 1


class Checks:
    """Checks that write down for whom they were made; `during(user_id, stop)` runs in the middle of them."""

    def __init__(
        self, report: Said | None = None, during: Callable[[int, threading.Event], object] | None = None
    ) -> None:
        self.made: list[int] = []
        self._report = report or Said()
        self._during = during

    def __call__(self, db: Db, settings: Settings, user_id: int, *, now: int, stop: threading.Event) -> Said:
        self.made.append(user_id)
        if self._during:
            self._during(user_id, stop)
        return self._report


def add_users(db: Db, count: int, minutes: int = 5, due: int = NOW, **columns: Any) -> list[int]:
    """Users u1@example.test … who are due at `due`; their ids."""
    last = int(db.value("SELECT COALESCE(MAX(id), 0) FROM users"))
    ids = list(range(last + 1, last + count + 1))
    db.run_many(
        "INSERT INTO users (id, email, email_key, created_at)",
        [(i, f"u{i}@example.test", f"u{i}@example.test", 1) for i in ids],
    )
    given = {"interval_minutes": minutes, "next_run_at": due, **columns}
    db.run_many(
        f"INSERT INTO user_monitor_schedules (user_id, {', '.join(given)})", [(i, *given.values()) for i in ids]
    )
    return ids


def schedule(user_id: int) -> Schedule:
    """The row of a user, read anew."""
    found = Schedule.get_by_id(user_id)
    assert isinstance(found, Schedule)
    return found
