"""Runs in the calling process: one user at once, or whoever is due; neither needs Redis."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from app.config import Settings
from app.db import Db
from app.errors import NotFound, Refused
from app.mail.notices import post
from app.models.schedules import ScheduleRun, ScheduleState
from app.queues.broker import redis_client
from app.schedules.answers import answer_direct, answer_queue, answer_sync
from app.schedules.claims import claim_due, start
from app.schedules.here import run_due, run_user
from app.schedules.keeper import RunKeeper
from app.schedules.running import carry_out
from app.schedules.store import set_schedule, unlock_user
from app.schedules.times import MINUTE
from tests.schedules.people import Checks, Said, add_users, schedule
from tests.sending import add_test_server
from tests.smtp_server import SmtpServer
from tests.working import eventually

TTL = 900_000


@pytest.fixture(autouse=True)
def settings(settings: Settings) -> Settings:
    """Without any Redis."""
    return Settings(**{**settings.__dict__, "redis_url": "unix:///nonexistent/redis.sock"})


def due(db: Db, count: int, **columns: Any) -> list[int]:
    return add_users(db, count, due=db.now_ms() - 1000, **columns)


def test_one_user_runs_at_once_and_the_result_is_the_answer(db: Db, settings: Settings) -> None:
    (user,) = add_users(db, 1, minutes=60, due=db.now_ms() + 30 * MINUTE)
    before = schedule(user).next_run_at

    answer = answer_direct(db, settings, f"U{user}@example.test", Checks(Said("failed", "one is down", 2)))

    document = answer.document(db)
    assert (document["mode"], document["dispatched"], document["users"]) == ("direct", 1, ["u1@example.test"])
    result = document["result"]
    assert (result["status"], result["error"], result["checks"]) == ("failed", "one is down", 2)
    found = schedule(user)
    assert (found.last_status, found.state, found.next_run_at) == ("failed", ScheduleState.IDLE, before)
    assert found.runs == ScheduleRun.select().count() == 1


def test_one_user_may_run_again_and_again(db: Db, settings: Settings) -> None:
    (user,) = due(db, 1)
    checks = Checks()
    for _ in range(3):
        run_user(db, settings, user, checks)
    assert (len(checks.made), schedule(user).runs, schedule(user).skipped) == (3, 3, 0)


def test_a_claim_that_waits_in_the_queue_is_the_one_that_runs(db: Db, settings: Settings) -> None:
    (user,) = due(db, 1)
    (claim,) = claim_due(db, "t" * 32, db.now_ms(), TTL, 1)

    _, ended = run_user(db, settings, user, Checks())

    assert ended.run.period == claim.period
    assert start(db, user, "t" * 32, db.now_ms()) is None


def test_nobody_runs_twice_at_a_time(db: Db, settings: Settings) -> None:
    (user,) = due(db, 1)
    claim_due(db, "t" * 32, db.now_ms(), TTL, 1)
    start(db, user, "t" * 32, db.now_ms())
    with pytest.raises(Refused, match="are running, since"):
        run_user(db, settings, user, Checks())


def test_who_is_off_or_unknown_does_not_run(db: Db, settings: Settings) -> None:
    (user,) = due(db, 1, enabled=0)
    with pytest.raises(Refused, match="--on"):
        run_user(db, settings, user, Checks())
    with pytest.raises(NotFound, match="no user 77"):
        run_user(db, settings, 77, Checks())


def test_checks_that_fail_by_themselves_are_an_error_of_that_run(db: Db, settings: Settings) -> None:
    (user,) = due(db, 1)

    def explode(user_id: int, stop: threading.Event) -> None:
        raise ValueError("no such thing")

    _, ended = run_user(db, settings, user, Checks(during=explode))

    assert (ended.status, ended.error) == ("error", "ValueError: no such thing")
    assert schedule(user).state is ScheduleState.IDLE


def test_a_run_whose_user_was_unlocked_is_told_to_stop_and_records_nothing(
    db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.schedules.keeper.RENEW_SECONDS", 0.01)
    (user,) = due(db, 1)

    def take_away(user_id: int, stop: threading.Event) -> None:
        assert unlock_user(db, user_id, db.now_ms())
        assert stop.wait(30)

    with pytest.raises(Refused, match="taken out of our hands"):
        run_user(db, settings, user, Checks(during=take_away))

    found = schedule(user)
    assert (found.last_status, found.interruptions, found.state) == ("interrupted", 1, ScheduleState.IDLE)
    assert [run.status for run in ScheduleRun.select()] == ["interrupted"]


def test_a_long_run_stays_ours(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.schedules.keeper.RENEW_SECONDS", 0.01)
    (user,) = due(db, 1)

    def linger(user_id: int, stop: threading.Event) -> None:
        before = schedule(user_id).locked_until or 0
        eventually(lambda: (schedule(user_id).locked_until or 0) > before, "renewed")
        assert not stop.is_set()

    _, ended = run_user(db, settings, user, Checks(during=linger))
    assert ended.status == "ok"


def test_a_run_that_takes_too_long_is_told_to_stop(db: Db, settings: Settings) -> None:
    (user,) = due(db, 1)
    claim_due(db, "t" * 32, db.now_ms(), TTL, 1)
    run = start(db, user, "t" * 32, db.now_ms())
    assert run is not None

    ended = carry_out(db, settings, run, Checks(during=lambda _, stop: stop.wait(60)), seconds=0.01)

    assert ended is not None
    assert (ended.status, ended.error) == ("error", "not done within 0.01 s")


def test_sync_runs_whoever_is_due_a_batch_a_call(db: Db, settings: Settings) -> None:
    users, checks = due(db, 7), Checks()
    later = add_users(db, 1, due=db.now_ms() + 30 * MINUTE)
    small = Settings(**{**settings.__dict__, "dispatch_batch_size": 5, "worker_concurrency": 3})

    first, second, third = (answer_sync(db, small, checks).document(db) for _ in range(3))

    assert [one["dispatched"] for one in (first, second, third)] == [5, 2, 0]
    assert sorted(checks.made) == users
    assert {result["status"] for result in first["results"]} == {"ok"}
    assert sorted(first["users"] + second["users"]) == [f"u{user}@example.test" for user in users]
    assert first["queue"] == {"waiting": 0, "active": 0}
    assert schedule(later[0]).runs == 0


def test_sync_runs_as_many_at_once_as_it_may(db: Db, settings: Settings) -> None:
    due(db, 3)
    together = threading.Barrier(3)
    wide = Settings(**{**settings.__dict__, "worker_concurrency": 3})
    batch = run_due(db, wide, Checks(during=lambda *_: together.wait(30)))
    assert [ended.status for ended in batch.ended.values()] == ["ok"] * 3


def test_sync_takes_up_what_waits_for_a_queue_that_is_gone(db: Db, settings: Settings) -> None:
    users, checks = due(db, 3, minutes=60), Checks()
    claims = claim_due(db, "t" * 32, db.now_ms(), TTL, 3)

    batch = run_due(db, settings, checks)

    assert sorted(checks.made) == users
    assert {ended.run.period for ended in batch.ended.values()} == {claim.period for claim in claims}
    assert {ended.run.token for ended in batch.ended.values()} == {"t" * 32}


def test_what_users_are_to_be_told_is_delivered_by_sync_itself(db: Db, settings: Settings) -> None:
    due(db, 1)

    def tell(user_id: int, stop: threading.Event) -> None:
        post(db, kind="mail", target="ann@example.com", subject="DOWN shop", body="it is down", now=db.now_ms())

    with SmtpServer() as server:
        add_test_server(server)
        batch = run_due(db, settings, Checks(during=tell))
        assert batch.errors == []
        assert server.counts() == {"ann@example.com": 1}


def test_off_while_a_claim_waits_means_that_nothing_runs(db: Db, settings: Settings) -> None:
    (user,) = due(db, 1)
    claim_due(db, "t" * 32, db.now_ms(), TTL, 1)

    set_schedule(db, settings, user, enabled=False, interval_minutes=None, now=db.now_ms())

    assert start(db, user, "t" * 32, db.now_ms()) is None
    assert schedule(user).state is ScheduleState.OFF
    assert answer_sync(db, settings, Checks()).users == []
    shown, _ = set_schedule(db, settings, user, enabled=True, interval_minutes=None, now=db.now_ms())
    assert shown.schedule.next_run_at <= db.now_ms()


def test_the_queue_says_who_waits_and_who_runs(db: Db, settings: Settings) -> None:
    users = due(db, 3)
    claim_due(db, "t" * 32, db.now_ms(), TTL, 3)
    start(db, users[0], "t" * 32, db.now_ms())
    nowhere = redis_client(settings.redis_url)
    assert answer_queue(db, settings, nowhere).document(db)["queue"] == {"waiting": 2, "active": 1}


def test_a_process_that_was_frozen_longer_than_its_lease_knows_it_before_it_writes(
    db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.schedules.keeper.LOOK_SECONDS", 3600.0)  # its keeper has not run again yet
    monkeypatch.setattr("app.schedules.running.keeper", RunKeeper())
    monkeypatch.setattr("app.schedules.keeper.LEASE_SECONDS", 0.05)
    (user,) = due(db, 1)

    def freeze(user_id: int, stop: threading.Event) -> None:
        eventually(stop.is_set, "its lease is over")

    run_user(db, settings, user, Checks(during=freeze))
