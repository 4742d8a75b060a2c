"""What crashes, lost messages and a changed clock leave behind is put right, and nobody runs twice for it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.db import Db
from app.models.schedules import RunStatus, Schedule, ScheduleRun
from app.schedules.claims import LEASE_MS, Claim, claim_due, finish, release, renew, start
from app.schedules.sweep import (
    INTERRUPTED,
    LOOK_MS,
    PAGE,
    pass_over,
    put_back,
    remove_old_runs,
    repair_clock,
    settle_interrupted,
)
from app.schedules.times import MINUTE
from tests.schedules.people import NOW, add_users, schedule

TTL = 900_000
TOKEN = "t" * 32


def claim_all(db: Db, now: int = NOW) -> None:
    claim_due(db, TOKEN, now, TTL, 1000)


class Queue:
    """Writes down what it is asked to have, and has it from then on, or forgets it."""

    def __init__(self) -> None:
        self.put: list[tuple[str, int]] = []
        self.has: set[tuple[str, int]] = set()

    def __call__(self, token: str, claims: Sequence[Claim]) -> int:
        asked = [(token, claim.user_id) for claim in claims]
        new = set(asked) - self.has
        self.put += asked
        self.has |= new
        return len(new)


def test_a_run_whose_worker_died_is_interrupted_and_not_run_again(db: Db) -> None:
    (user,) = add_users(db, 1, minutes=5)
    claim_all(db)
    run = start(db, user, TOKEN, NOW)
    assert run is not None
    assert renew(db, run, NOW + 30_000)

    assert settle_interrupted(db, NOW + 30_000 + LEASE_MS) == 0
    assert settle_interrupted(db, NOW + 30_001 + LEASE_MS) == 1

    found = schedule(user)
    assert (found.last_status, found.last_error, found.interruptions, found.locked_by) == (
        "interrupted", INTERRUPTED, 1, None,
    )  # fmt: skip
    row = ScheduleRun.get(ScheduleRun.user_id == user)
    assert (row.status, row.period, row.duration_ms) == ("interrupted", NOW, 30_000)
    assert not finish(db, run, RunStatus.OK, None, 1, 1)
    assert start(db, user, TOKEN, NOW + 2 * MINUTE) is None
    assert claim_due(db, TOKEN, NOW + 2 * MINUTE, TTL, 10) == []
    assert claim_due(db, TOKEN, NOW + 5 * MINUTE, TTL, 10) == [Claim(user, NOW + 5 * MINUTE)]


def test_a_claim_that_waits_longer_than_its_lock_keeps_token_and_period(db: Db) -> None:
    users, queue = add_users(db, 3, minutes=60), Queue()
    claim_all(db)
    assert put_back(db, NOW + TTL, TTL, queue) == (3, 0)

    assert put_back(db, NOW + TTL + 1, TTL, queue) == (0, 3)

    assert queue.put == [(TOKEN, user) for user in users] * 2
    assert {schedule(user).locked_until for user in users} == {NOW + 2 * TTL + 1}
    run = start(db, users[0], TOKEN, NOW + TTL + 2)
    assert run is not None
    assert run.period == NOW


def test_a_claim_whose_message_is_missing_is_found_at_the_next_round(db: Db) -> None:
    users, queue = add_users(db, 2 * PAGE + 3, minutes=60), Queue()
    claim_due(db, TOKEN, NOW, TTL, 5000)
    started, *waiting = users
    assert start(db, started, TOKEN, NOW)
    assert put_back(db, NOW + LOOK_MS, TTL, queue) == (0, 0), "its dispatcher may be about to enqueue it"

    assert put_back(db, NOW + LOOK_MS + 1, TTL, queue) == (len(waiting), 0)

    assert queue.put == [(TOKEN, user) for user in waiting]
    assert schedule(waiting[-1]).locked_until == NOW + TTL
    queue.has.remove((TOKEN, waiting[-1]))
    assert put_back(db, NOW + 2 * MINUTE, TTL, queue) == (1, 0)


def test_claims_stay_as_they_are_when_the_queue_takes_nothing(db: Db) -> None:
    (user,) = add_users(db, 1, minutes=60)
    claim_all(db)

    def refuse(token: str, claims: Sequence[Claim]) -> int:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        put_back(db, NOW + TTL + 1, TTL, refuse)

    assert schedule(user).locked_until == NOW + TTL
    queue = Queue()
    assert put_back(db, NOW + TTL + 2, TTL, queue) == (1, 1)


def test_who_still_runs_when_he_is_due_again_is_an_overrun_and_who_still_waits_is_skipped(db: Db) -> None:
    running, waiting, neither = add_users(db, 3, minutes=1)
    claim_due(db, TOKEN, NOW, TTL, 2)
    assert start(db, running, TOKEN, NOW)

    assert pass_over(db, NOW + 3 * MINUTE + 1) == 1

    one, two, three = schedule(running), schedule(waiting), schedule(neither)
    assert (one.overruns, one.skipped, one.next_run_at) == (1, 2, NOW + 4 * MINUTE)
    assert (two.overruns, two.skipped, two.next_run_at) == (0, 3, NOW + 4 * MINUTE)
    assert (three.overruns, three.skipped, three.next_run_at) == (0, 0, NOW)
    assert claim_due(db, "y" * 32, NOW + 3 * MINUTE + 1, TTL, 10) == [Claim(neither, NOW)]


def test_periods_passed_over_while_a_claim_waited_are_not_counted_twice_when_it_is_given_back(db: Db) -> None:
    (user,) = add_users(db, 1, minutes=1)
    claim_all(db)
    pass_over(db, NOW + 3 * MINUTE)
    assert schedule(user).skipped == 3
    assert release(db, TOKEN, [user])
    assert schedule(user).skipped == 0
    claim_all(db, NOW + 3 * MINUTE)
    assert (schedule(user).skipped, schedule(user).period) == (3, NOW)


def test_a_clock_that_went_back_costs_nobody_his_runs(db: Db) -> None:
    (user,) = add_users(db, 1, minutes=5)
    claim_all(db)
    run = start(db, user, TOKEN, NOW)
    assert run is not None
    finish(db, run, RunStatus.OK, None, 1, 1)
    back = NOW - 180 * MINUTE - 1000

    assert repair_clock(db, back, TTL) == 1
    assert repair_clock(db, back, TTL) == 0

    assert schedule(user).next_run_at == NOW - 180 * MINUTE
    claim_all(db, NOW - 180 * MINUTE)
    assert start(db, user, TOKEN, NOW - 180 * MINUTE) is not None


def test_a_clock_that_went_back_a_little_runs_no_period_twice(db: Db) -> None:
    (user,) = add_users(db, 1, minutes=5)
    claim_all(db)
    run = start(db, user, TOKEN, NOW)
    assert run is not None
    finish(db, run, RunStatus.OK, None, 1, 1)

    assert repair_clock(db, NOW - MINUTE, TTL) == 0, "the next run is where it should be"

    claim_all(db, NOW + 4 * MINUTE)
    assert schedule(user).locked_by is None
    claim_all(db, NOW + 5 * MINUTE)
    assert (schedule(user).period, schedule(user).skipped) == (NOW + 5 * MINUTE, 0)


def test_a_next_run_that_somebody_wrote_too_far_away_is_repaired(db: Db) -> None:
    far, next_, asked = add_users(db, 3, minutes=5)
    db.run("UPDATE user_monitor_schedules SET next_run_at = ? WHERE user_id = ?", NOW + 121 * MINUTE, far)
    db.run("UPDATE user_monitor_schedules SET next_run_at = ? WHERE user_id = ?", NOW + 5 * MINUTE, next_)
    wish = {"next_run_at": NOW + 60 * MINUTE, "rhythm_at": NOW + 63 * MINUTE}
    Schedule.update(**wish).where(Schedule.user_id == asked).execute()

    assert repair_clock(db, NOW, TTL) == 2

    found = [(schedule(user).next_run_at, schedule(user).rhythm_at) for user in (far, next_, asked)]
    assert found == [(NOW + MINUTE, None), (NOW + 5 * MINUTE, None), (NOW + 3 * MINUTE, None)]


def test_a_lock_from_the_future_holds_nobody_longer_than_any_lock_does(db: Db) -> None:
    (user,) = add_users(db, 1, locked_by=TOKEN, locked_until=NOW + 10 * TTL, period=NOW - 1, due=NOW + MINUTE)
    repair_clock(db, NOW, TTL)
    assert schedule(user).locked_until == NOW + TTL


def test_old_runs_are_removed_and_young_ones_stay(db: Db) -> None:
    (user,) = add_users(db, 1)
    rows = [(user, NOW + i, NOW + i, 1, "ok") for i in range(-20, 20)]
    db.run_many("INSERT INTO schedule_runs (user_id, period, started_at, duration_ms, status)", rows)

    assert remove_old_runs(db, NOW) == 20
    assert remove_old_runs(db, NOW) == 0

    assert db.row("SELECT COUNT(*), MIN(started_at) FROM schedule_runs") == (20, NOW)
