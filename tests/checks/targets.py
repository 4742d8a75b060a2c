"""What the tests of targets in the database share: a user, targets, a run, what was written down."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app.addresses import EVERYTHING
from app.config import Settings
from app.db import Db
from app.db.connection import Row
from app.schedules.checks.run import Report, run_checks
from app.schedules.checks.store import add_target, find_target
from app.schedules.checks.target import Wanted
from app.schedules.users import find_or_add_user
from tests.checks.site import HERE, http

MINUTE = 60_000


def add_user(db: Db, email: str = "ann@example.test") -> int:
    """A user's id."""
    return int(find_or_add_user(db, email, 5, db.now_ms())[0].id)


def add_http(db: Db, user_id: int, url: str, **fields: Any) -> int:
    return add_target(db, user_id, http(url, **fields), db.now_ms())


def add(db: Db, user_id: int, wanted: Wanted) -> int:
    return add_target(db, user_id, wanted, db.now_ms())


def run(db: Db, settings: Settings, user_id: int, now: int | None = None, **more: Any) -> Report:
    """One run of a user's checks that may look at this machine and does not pause before the second look."""
    stop = more.pop("stop", threading.Event())
    allowing = replace(settings, allow_private_addresses=EVERYTHING, check_concurrency=more.pop("at_once", 10))
    at = db.now_ms() if now is None else now
    return run_checks(db, allowing, user_id, now=at, stop=stop, way=HERE, pause=0, **more)


def state(db: Db, target_id: int) -> str:
    return find_target(db, target_id).standing.state.value


def told(db: Db) -> list[tuple[str, str]]:
    """Kind and subject of every notice, in order."""
    return [(str(kind), str(subject)) for kind, subject in db.rows("SELECT kind, subject FROM notices ORDER BY id")]


def results(db: Db, target_id: int) -> list[Row]:
    """Instant and ok of every result, in order."""
    return db.rows("SELECT at, ok FROM check_results WHERE target_id = ? ORDER BY at", target_id)


def in_threads(work: Callable[[], object], count: int, db: Db) -> list[BaseException]:
    """Do something in several threads that begin together; what they raised."""
    begin, errors = threading.Barrier(count), []

    def one() -> None:
        begin.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            db.close()

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def run_beside(db: Db, settings: Settings, user_id: int, **more: Any) -> threading.Thread:
    """A run on a thread of its own."""

    def work() -> None:
        run(db, settings, user_id, **more)
        db.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread
