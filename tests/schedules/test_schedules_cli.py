"""`mailcrew schedules`: what people and crontabs type, and what they are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from app import config
from app.cli import main as mailcrew
from app.config import Settings
from app.db import Db
from app.models.schedules import ScheduleState
from app.queues import keys
from app.queues.broker import redis_client
from app.schedules.claims import LEASE_MS, claim_due, start
from app.schedules.times import MINUTE
from tests.schedules.people import SLACK_MS, add_users, schedule

TTL = 900_000


@pytest.fixture(autouse=True)
def home(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("MAILCREW_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    config.settings.cache_clear()
    redis_client(settings.redis_url).flushdb()
    yield settings
    config.settings.cache_clear()


class Typed:
    """Runs a command; what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> str:
        try:
            ended = mailcrew.main(["schedules", *words])
        except SystemExit as end:
            ended = int(end.code or 0)
        said = self._capsys.readouterr()
        assert ended == code, said
        return said.out if code == 0 else said.out + said.err

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(capsys)


def due(db: Db, count: int, **columns: Any) -> list[int]:
    return add_users(db, count, due=db.now_ms() - 1000, **columns)


def test_a_user_is_made_changed_and_shown(typed: Typed) -> None:
    assert "no user yet" in typed("list")
    assert "new user" in typed("set", "Ann@Example.com", "--every", "15")
    typed("set", "ann@example.com", "--every", "30", "--off")
    shown = typed.json("show", "1")
    assert (shown["user"]["email"], shown["interval_minutes"], shown["state"]) == ("Ann@example.com", 30, "off")
    assert typed.json("list")[0]["interval_minutes"] == 30
    assert "every   30 min" in typed("list")
    assert "off, every 30 min" in typed("show", "1")


def test_without_an_interval_a_new_user_gets_the_default(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_INTERVAL_MINUTES", "42")
    config.settings.cache_clear()
    typed("set", "ann@example.com")
    assert typed.json("show", "ann@example.com")["interval_minutes"] == 42


@pytest.mark.parametrize("minutes", ["0", "1441", "-3"])
def test_an_interval_that_is_not_allowed_is_refused_by_name(typed: Typed, minutes: str) -> None:
    said = typed("set", "ann@example.com", f"--every={minutes}", code=2)
    assert "--every" in said
    assert "from 1 to 1440" in said


def test_who_is_not_there_is_not_found(typed: Typed) -> None:
    assert "there is no user bob@example.com" in typed("show", "bob@example.com", code=1)
    assert "there is no user 7" in typed("run", "7", code=1)


def test_run_makes_due_and_dispatch_enqueues(typed: Typed, db: Db, settings: Settings) -> None:
    (user,) = add_users(db, 1, minutes=60, due=db.now_ms() + 30 * MINUTE)
    assert typed.json("dispatch")["dispatched"] == 0
    typed("run", str(user))
    answer = typed.json("dispatch")
    assert (answer["mode"], answer["users"]) == ("queue", ["u1@example.test"])
    assert redis_client(settings.redis_url).llen(keys.waiting("monitor")) == 1
    assert "waits in the queue" in typed("run", str(user), code=1)


def test_sync_and_one_user_run_here_without_any_redis(typed: Typed, db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "unix:///nonexistent/redis.sock")
    config.settings.cache_clear()
    due(db, 3)
    assert "Redis does not answer" in typed("dispatch", code=1)

    assert typed.json("dispatch", "--user", "u2@example.test")["result"]["status"] == "ok"
    answer = typed.json("dispatch", "--sync")

    assert (answer["mode"], answer["dispatched"]) == ("sync", 2)
    assert {schedule(user).last_status for user in (1, 2, 3)} == {"ok"}
    assert "1 user run here" in typed("dispatch", "--user", "1")


def test_sync_and_one_user_do_not_go_together(typed: Typed) -> None:
    assert "not allowed with" in typed("dispatch", "--sync", "--user", "1", code=2)


def test_locks_that_ran_out_are_let_go_and_others_are_kept(typed: Typed, db: Db) -> None:
    now = db.now_ms()
    dead, lost, alive, waiting = add_users(db, 4, due=now - TTL)
    claim_due(db, "t" * 32, now - 2 * LEASE_MS, TTL, 1, only=dead)
    assert start(db, dead, "t" * 32, now - 2 * LEASE_MS)
    claim_due(db, "l" * 32, now, -1, 1, only=lost)
    for user in (alive, waiting):
        claim_due(db, "a" * 32, now, TTL, 1, only=user)
    assert start(db, alive, "a" * 32, now)

    assert typed("unlock", "--expired").startswith("2 users let go")

    assert (schedule(dead).last_status, schedule(dead).state) == ("interrupted", ScheduleState.IDLE)
    assert schedule(lost).state is ScheduleState.IDLE
    assert schedule(lost).next_run_at <= now
    assert schedule(alive).state is ScheduleState.RUNNING
    assert schedule(waiting).state is ScheduleState.QUEUED
    assert typed("unlock").startswith("0 users")


def test_one_user_is_unlocked_whatever_his_lock_says(typed: Typed, db: Db) -> None:
    running, waiting = due(db, 2)
    claim_due(db, "t" * 32, db.now_ms(), TTL, 2)
    assert start(db, running, "t" * 32, db.now_ms())

    assert "is free" in typed("unlock", str(running))
    assert "is free" in typed("unlock", f"u{waiting}@example.test")
    assert "was not locked" in typed("unlock", str(waiting))

    assert schedule(running).interruptions == 1
    assert schedule(waiting).next_run_at <= db.now_ms() + SLACK_MS


def test_show_tells_how_the_last_runs_went(typed: Typed, db: Db) -> None:
    (user,) = due(db, 1)
    typed("dispatch", "--sync")
    said = typed("show", str(user))
    assert "runs 1, skipped 0, overruns 0, interruptions 0" in said
    assert " late" in said
    assert typed.json("show", str(user))["last_runs"][0]["status"] == "ok"
