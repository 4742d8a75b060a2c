"""Claims and runs: each due user once for each of his periods, whoever asks and however often."""

from __future__ import annotations

import random

from app.db import Db
from app.models.schedules import SCHEDULE_TABLES, RunStatus, ScheduleRun
from app.schedules.claims import LEASE_MS, Claim, claim_due, finish, new_token, release, renew, start
from app.schedules.times import MINUTE, Due, after_claim
from tests.schedules.people import NOW, add_users, schedule

TTL = 900_000


def claim(db: Db, now: int = NOW, limit: int = 100, token: str | None = None) -> list[Claim]:
    return claim_due(db, token or new_token(), now, TTL, limit)


def test_the_models_have_exactly_the_columns_of_the_migrated_schema(db: Db) -> None:
    for table in SCHEDULE_TABLES:
        name = table._meta.table_name
        # SQLite does not list what it reckons itself.
        assert {c.name for c in db.peewee.get_columns(name)} - {"prior_at"} == set(table._meta.columns), name


def test_everybody_who_is_due_is_claimed_once(db: Db) -> None:
    due, later = add_users(db, 7), add_users(db, 3, due=NOW + 1)
    off = add_users(db, 2, enabled=0)

    found = [one.user_id for _ in range(4) for one in claim(db, limit=3)]

    assert sorted(found) == due
    assert claim(db) == []
    assert {one.user_id for one in claim(db, NOW + 1)} == set(later)
    assert schedule(off[0]).locked_by is None


def test_the_longest_due_come_first(db: Db) -> None:
    add_users(db, 2, due=NOW)
    oldest = add_users(db, 1, due=NOW - 10_000)
    assert [one.user_id for one in claim(db, limit=1)] == oldest


def test_a_claim_remembers_what_it_is_for_and_the_rhythm_goes_on(db: Db) -> None:
    (user,) = add_users(db, 1, minutes=5, due=NOW - 11 * MINUTE)

    (mine,) = claim(db, token="t" * 32)

    found = schedule(user)
    assert mine.period == found.period == NOW - 11 * MINUTE
    assert (found.next_run_at, found.skipped) == (NOW + 4 * MINUTE, 2)
    assert (found.locked_by, found.locked_until) == ("t" * 32, NOW + TTL)


def test_the_database_reckons_as_the_pure_functions_do(db: Db) -> None:
    chance, expected = random.Random(5), {}
    for _ in range(80):
        minutes, late = chance.randint(1, 1440), chance.randint(0, 5000 * MINUTE)
        due = Due(NOW - late)
        if chance.random() < 0.5:  # asked for: the rhythm goes on somewhere behind it
            due = Due(NOW - late, NOW - late + chance.randint(1, minutes * MINUTE))
        (user,) = add_users(db, 1, minutes=minutes, due=due.next_run_at, rhythm_at=due.rhythm_at)
        expected[user] = due, after_claim(due, minutes * MINUTE, NOW)

    assert len(claim(db, token="t" * 32)) == 80

    for user, (_, one) in expected.items():
        found = schedule(user)
        assert (found.skipped, found.next_run_at, found.rhythm_at) == (one.skipped, one.due.next_run_at, None)
    assert release(db, "t" * 32, list(expected)) == 80
    for user, (due, _) in expected.items():
        found = schedule(user)
        interval = found.interval_minutes * MINUTE
        assert (found.skipped, found.next_run_at) == (0, due.next_run_at)
        assert Due(found.next_run_at, found.rhythm_at).behind(interval) == due.behind(interval)


def test_whoever_writes_the_next_run_moves_the_rhythm(db: Db) -> None:
    """No column has to fit: as a person at the database, or a program of the company's, would do it."""
    (user,) = add_users(db, 1, minutes=5, due=NOW + 3 * MINUTE)
    db.run("UPDATE user_monitor_schedules SET next_run_at = ? WHERE user_id = ?", NOW - 11 * MINUTE, user)
    (mine,) = claim(db)
    assert (mine.period, schedule(user).next_run_at, schedule(user).skipped) == (NOW - 11 * MINUTE, NOW + 4 * MINUTE, 2)


def test_a_claim_that_is_given_back_was_never_there(db: Db) -> None:
    (user,) = add_users(db, 1, minutes=5, due=NOW - 11 * MINUTE, started_period=NOW - 16 * MINUTE, skipped=4)
    claim(db, token="t" * 32)

    assert release(db, "t" * 32, [user]) == 1

    found = schedule(user)
    assert (found.next_run_at, found.period, found.skipped, found.locked_by, found.locked_until) == (
        NOW - 11 * MINUTE, NOW - 16 * MINUTE, 4, None, None,
    )  # fmt: skip
    (again,) = claim(db, NOW + MINUTE)
    assert again.period == NOW - 11 * MINUTE
    assert schedule(user).skipped == 6


def test_nobody_gives_back_what_has_been_started_or_is_anothers(db: Db) -> None:
    started, waiting = add_users(db, 2)
    claim(db, token="t" * 32)
    assert start(db, started, "t" * 32, NOW)

    assert release(db, "x" * 32, [started, waiting]) == 0
    assert release(db, "t" * 32, [started]) == 0
    assert schedule(started).locked_by == "t" * 32


def test_a_run_is_started_once_however_often_its_message_comes(db: Db) -> None:
    (user,) = add_users(db, 1, due=NOW - 500)
    claim(db, token="t" * 32)

    run = start(db, user, "t" * 32, NOW)

    assert run is not None
    assert (run.period, run.lag_ms) == (NOW - 500, 500)
    assert start(db, user, "t" * 32, NOW) is None
    assert start(db, user, "x" * 32, NOW) is None
    assert (schedule(user).runs, schedule(user).locked_until) == (1, NOW + LEASE_MS)


def test_a_message_that_comes_after_the_end_finds_nothing(db: Db) -> None:
    (user,) = add_users(db, 1)
    claim(db, token="t" * 32)
    run = start(db, user, "t" * 32, NOW)
    assert run is not None
    assert finish(db, run, RunStatus.OK, None, 10, 1)
    assert start(db, user, "t" * 32, NOW) is None


def test_the_end_of_a_run_is_recorded_and_lets_go_of_its_user(db: Db) -> None:
    (user,) = add_users(db, 1)
    claim(db, token="t" * 32)
    run = start(db, user, "t" * 32, NOW + 300)
    assert run is not None

    assert finish(db, run, RunStatus.FAILED, "x" * 900, 1234, 3)

    found = schedule(user)
    assert (found.last_status, found.last_duration_ms, found.last_run_at) == ("failed", 1234, NOW + 300)
    assert found.last_error == "x" * 500
    assert (found.locked_by, found.locked_until) == (None, None)
    row = ScheduleRun.get(ScheduleRun.user_id == user)
    assert (row.period, row.started_at, row.duration_ms, row.status, row.checks) == (
        NOW, NOW + 300, 1234, "failed", 3,
    )  # fmt: skip


def test_whoever_lost_a_run_renews_and_records_nothing(db: Db) -> None:
    (user,) = add_users(db, 1, minutes=1)
    claim(db, token="t" * 32)
    lost = start(db, user, "t" * 32, NOW)
    assert lost is not None
    db.run("UPDATE user_monitor_schedules SET locked_by = NULL, locked_until = NULL")
    claim(db, NOW + MINUTE, token="y" * 32)
    other = start(db, user, "y" * 32, NOW + MINUTE)
    assert other is not None

    assert not renew(db, lost, NOW + MINUTE)
    assert not finish(db, lost, RunStatus.OK, None, 10, 1)

    assert ScheduleRun.select().count() == 0
    assert renew(db, other, NOW + 2 * MINUTE)
    assert schedule(user).locked_until == NOW + 2 * MINUTE + LEASE_MS


def test_a_period_that_somebody_set_once_more_by_hand_does_not_keep_its_user_waiting_for_ever(db: Db) -> None:
    (user,) = add_users(db, 1, started_period=NOW, period=NOW)
    claim(db, token="t" * 32)
    assert start(db, user, "t" * 32, NOW) is not None


def test_only_the_one_who_is_named_is_claimed(db: Db) -> None:
    first, second = add_users(db, 2)
    assert [one.user_id for one in claim_due(db, new_token(), NOW, TTL, 1, only=second)] == [second]
    assert claim_due(db, new_token(), NOW, TTL, 1, only=second) == []
    assert schedule(first).locked_by is None
