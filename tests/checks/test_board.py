"""A user's targets beside each other: the same figures as each has by itself, in one statement for all."""

from __future__ import annotations

import pytest

from app.db import Db
from app.schedules.checks.board import board, last_outages
from app.schedules.checks.history import outages, uptime
from app.schedules.checks.recording import DAY_MS
from app.schedules.checks.store import MOST_TARGETS, targets_of
from tests import test_query_plans
from tests.checks.targets import add_http, add_user
from tests.statements import recorded
from tests.test_query_plans import Ledger

NOW = 1_790_000_000_000


@pytest.fixture
def user(db: Db) -> int:
    """A user with as many targets as there may be, each with days and outages; somebody else has some too."""
    mine, other = add_user(db), add_user(db, "else@example.test")
    for number in range(MOST_TARGETS):
        target_id = add_http(db, mine, "http://x.test/", name=f"t{number:02}")
        fill(db, target_id, number)
    fill(db, add_http(db, other, "http://x.test/", name="else"), 3)
    return mine


def fill(db: Db, target_id: int, number: int) -> None:
    days = [(target_id, NOW // DAY_MS - back, 10 + number, back % 3, 900, 300) for back in range(0, 40, 1 + number % 3)]
    db.run_many("INSERT INTO check_days (target_id, day, checks, failures, latency_sum, latency_max)", days)
    found = [(target_id, NOW - number - back * 1000, NOW - 5 if back else None, f"o{back}") for back in range(6)]
    db.run_many("INSERT INTO target_outages (target_id, began_at, ended_at, reason)", found)


def test_each_target_has_the_days_that_it_has_alone(db: Db, user: int) -> None:
    lines = board(db, user, 30, NOW)
    assert [line.target.wanted.name for line in lines] == [f"t{number:02}" for number in range(MOST_TARGETS)]
    for line in lines:
        alone = uptime(db, line.target.id, 30, now=NOW)
        assert line.days == alone
        assert (line.checks, line.failures) == (sum(d.checks for d in alone), sum(d.failures for d in alone))
    assert len({line.checks for line in lines}) > 3


def test_the_last_outages_of_all_are_the_newest_of_each(db: Db, user: int) -> None:
    targets = targets_of(db, user)
    found = last_outages(db, targets, 7)
    every = [(target, one) for target in targets for one in outages(db, target.id)]
    assert found == sorted(every, key=lambda pair: pair[1].began_at, reverse=True)[:7]


def test_a_user_without_targets_has_an_empty_board(db: Db) -> None:
    assert board(db, add_user(db), 30, NOW) == []
    assert last_outages(db, [], 5) == []


def test_fifty_targets_cost_no_more_statements_than_one(db: Db, user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recorded(db, monkeypatch)
    last_outages(db, [line.target for line in board(db, user, 30, NOW)], 10)
    assert len(asked) == 3


def test_nothing_reads_the_targets_of_all_users(db: Db, user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    others = range(1000, 3000)
    days = [(i, NOW // DAY_MS - back, 9, 0, 1, 1) for i in others for back in range(3)]
    db.run_many("INSERT INTO check_days (target_id, day, checks, failures, latency_sum, latency_max)", days)
    outages = [(i, back, 5, "x") for i in others for back in range(3)]
    db.run_many("INSERT INTO target_outages (target_id, began_at, ended_at, reason)", outages)
    tables = ("check_days", "target_outages")
    if db.dialect == "sqlite":
        db.run("ANALYZE")
    else:
        db.rows(f"ANALYZE TABLE {', '.join(tables)}")
    monkeypatch.setattr(test_query_plans, "LARGE", tables)
    ledger = Ledger(db, monkeypatch)
    last_outages(db, [line.target for line in board(db, user, 30, NOW)], 10)
    assert len(ledger.seen) == 3
    assert ledger.scans() == []
