"""No statement of dispatching, running and looking at schedules reads a large table from end to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.config import Settings
from app.db import Db
from app.models.schedules import RunStatus
from app.schedules.answers import answer_direct, answer_sync, queue_state
from app.schedules.claims import claim_due, finish, renew, start
from app.schedules.dispatch import dispatch
from app.schedules.store import list_schedules, recent_runs, run_now, set_schedule, unlock_expired, unlock_user
from app.schedules.sweep import repair_clock
from app.schedules.times import MINUTE
from tests import test_query_plans
from tests.schedules.people import Checks, add_users
from tests.test_query_plans import Ledger

TABLES = ("users", "user_monitor_schedules", "schedule_runs")
CROWD = 4000


@pytest.fixture
def now(db: Db) -> int:
    """4,000 users, a few of them due, waiting, running, forgotten, from the future; statistics up to date. Now."""
    now = db.now_ms()
    add_users(db, CROWD, minutes=60, due=now + 30 * MINUTE)
    add_users(db, 20, minutes=5, due=now - 1000)
    lost: dict[str, Any] = {"locked_by": "t" * 32, "locked_until": now - 1, "period": now - MINUTE}
    add_users(db, 5, due=now - 1, **lost)
    add_users(db, 5, due=now - 1, **lost, started_period=now - MINUTE, last_run_at=now - MINUTE)
    add_users(db, 5, due=now + 600 * MINUTE)
    rows = [(1 + i % CROWD, 1 + i, 1 + i, 5, "ok") for i in range(8000)]
    db.run_many("INSERT INTO schedule_runs (user_id, period, started_at, duration_ms, status)", rows)
    if db.dialect == "sqlite":
        db.run("ANALYZE")
    else:
        db.rows(f"ANALYZE TABLE {', '.join(TABLES)}")
    return now


def rounds(db: Db, settings: Settings, now: int) -> None:
    """All that a tick does, twice: the second finds what the first has claimed still waiting."""
    for at in (now, now + 5 * MINUTE):
        assert dispatch(db, settings, lambda *_: 0, at).claimed > 0
    repair_clock(db, now - MINUTE, settings.dispatch_lock_ttl)
    queue_state(db)


def runs(db: Db, settings: Settings, now: int) -> None:
    for claim in claim_due(db, "u" * 32, now, 900_000, 3):
        run = start(db, claim.user_id, "u" * 32, now)
        assert run
        assert renew(db, run, now)
        assert finish(db, run, RunStatus.OK, None, 1, 1)
    answer_sync(db, settings, Checks()).document(db)
    answer_direct(db, settings, "u5@example.test", Checks())


def people(db: Db, settings: Settings, now: int) -> None:
    set_schedule(db, settings, 3, enabled=False, interval_minutes=7, now=now)
    set_schedule(db, settings, 3, enabled=True, interval_minutes=None, now=now)
    set_schedule(db, settings, "new@example.test", enabled=None, interval_minutes=None, now=now)
    run_now(4, now)
    claim_due(db, "v" * 32, now, 900_000, 1, only=4)
    assert unlock_user(db, 4, now)
    unlock_expired(db, now)
    assert len(list_schedules(10, 3000)) == 10
    assert recent_runs(7, 5)


@pytest.mark.parametrize("path", [rounds, runs, people])
def test_no_statement_reads_a_large_table_from_end_to_end(
    db: Db,
    settings: Settings,
    now: int,
    monkeypatch: pytest.MonkeyPatch,
    path: Callable[[Db, Settings, int], None],
) -> None:
    monkeypatch.setattr(test_query_plans, "LARGE", TABLES)
    ledger = Ledger(db, monkeypatch)
    path(db, settings, now)
    assert len(ledger.seen) > 5
    assert "\n".join(ledger.scans()) == ""
