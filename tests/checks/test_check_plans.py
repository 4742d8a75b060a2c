"""No statement of targets and their checks reads a large table from end to end, on either database."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from app.config import Settings
from app.db import Db
from app.schedules.checks.history import latencies, outages, recent, uptime
from app.schedules.checks.recording import DAY_MS
from app.schedules.checks.store import find_target, remove_target, switch_target, targets_of
from app.schedules.checks.tidying import tidy
from tests import test_query_plans
from tests.checks.site import Site
from tests.checks.targets import add_http, add_user, run
from tests.ports import free_port
from tests.test_query_plans import Ledger

TABLES = ("targets", "check_results", "check_days", "target_outages", "users")
NOW = 1_790_000_000_000


@pytest.fixture
def crowd(db: Db) -> int:
    """2,000 users with a target each and 20 results, days and outages of it; statistics up to date. One user's id."""
    ids = range(1, 2001)
    db.run_many("INSERT INTO users (email, email_key, created_at)", [(f"u{i}@x.test", f"u{i}@x.test", 1) for i in ids])
    db.run_many(
        "INSERT INTO targets (user_id, name, kind, url, expect_status, redirects, timeout_seconds, confirmations, "
        "state, created_at, tidied_at)",
        [(i, "one", "http", f"http://127.0.0.1:{free_port()}/" if i == 7 else "http://x.test/", "200", 0, 1, 2,
          "up", 1, NOW + i) for i in ids],
    )  # fmt: skip
    rows = [(i, n) for i in ids for n in range(20)]
    db.run_many(
        "INSERT INTO check_results (target_id, at, ok, latency_ms)", [(i, NOW - n * 300_000, 1, 9) for i, n in rows]
    )
    db.run_many(
        "INSERT INTO check_days (target_id, day, checks, failures, latency_sum, latency_max)",
        [(i, NOW // DAY_MS - n, 9, 1, 80, 9) for i, n in rows],
    )
    db.run_many("INSERT INTO target_outages (target_id, began_at, ended_at, reason)", [(i, n, 5, "x") for i, n in rows])
    if db.dialect == "sqlite":
        db.run("ANALYZE")
    else:
        db.rows(f"ANALYZE TABLE {', '.join(TABLES)}")
    return 7


def check(db: Db, settings: Settings, user: int) -> None:
    """Down and up again, with notices and outages."""
    with Site() as site:
        add_http(db, user, site.url("/"), name="second")
        run(db, settings, user, NOW)
        site.down()
        run(db, settings, user, NOW + 1000)
        run(db, settings, user, NOW + 200_000)
        site.up()
        run(db, settings, user, NOW + 400_000)


def look(db: Db, settings: Settings, user: int) -> None:
    (target,) = targets_of(db, user)
    find_target(db, target.id)
    assert len(latencies(db, target.id, NOW - DAY_MS, now=NOW)) == 20
    assert len(recent(db, target.id)) == 20
    assert len(outages(db, target.id)) == 20
    assert sum(day.checks for day in uptime(db, target.id, 30, now=NOW)) == 180


def change(db: Db, settings: Settings, user: int) -> None:
    (target,) = targets_of(db, user)
    switch_target(db, target.id, False, NOW)
    remove_target(db, target.id, NOW)


def clean(db: Db, settings: Settings, user: int) -> None:
    remove_target(db, 9, NOW)
    tidy(db, NOW + DAY_MS + 50, 1, stop=threading.Event())


@pytest.mark.parametrize("path", [check, look, change, clean])
def test_no_statement_reads_a_large_table_from_end_to_end(
    db: Db, settings: Settings, crowd: int, monkeypatch: pytest.MonkeyPatch, path: Callable[[Db, Settings, int], None]
) -> None:
    monkeypatch.setattr(test_query_plans, "LARGE", TABLES)
    add_user(db)
    ledger = Ledger(db, monkeypatch)
    path(db, settings, crowd)
    assert len(ledger.seen) > 3
    assert ledger.scans() == []
