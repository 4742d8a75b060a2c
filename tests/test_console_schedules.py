"""The pages of schedules: whom they show, what their forms do, what they say when something is wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from flask import Flask

from app.config import Settings
from app.db import Db
from app.models.schedules import RunStatus, ScheduleState
from app.schedules.checks.recording import DAY_MS
from app.schedules.claims import claim_due, finish, start
from app.schedules.search import LATE_MS
from app.schedules.times import MINUTE
from app.web.application import create_app
from app.web.audit import entries
from app.web.console.pages.schedules import PAGE
from app.web.console.words import LANGUAGES, catalogue
from tests.console import Visitor, logged_in
from tests.schedules.pages import NASTY, figures, fresh, put_in, users_on
from tests.schedules.people import SLACK_MS, add_users, schedule


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=5")


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis) -> Flask:
    return create_app(here, db=db)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return logged_in(app)


# -- all users -----------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_users_the_page_says_how_to_add_one(visitor: Visitor, language: str) -> None:
    visitor.client.set_cookie("mailcrew_language", language)
    page = visitor.get("/schedules")
    assert str(catalogue(language)["schedules.none"]) in page.text
    assert 'name="new_email"' in page.text


def test_the_figures_are_those_of_the_api(app: Flask, visitor: Visitor, db: Db) -> None:
    now = db.now_ms()
    add_users(db, 3, due=now - LATE_MS - SLACK_MS)
    add_users(db, 2, due=now + MINUTE, last_status="failed")
    add_users(db, 1, due=now + MINUTE, last_status="error")
    claim_due(db, "t", now, 900_000, 2)
    start(db, 1, "t", now)
    api = visitor.client.get("/api/schedules/overview").get_json()
    shown = figures(visitor.get("/schedules").text)
    names = {
        "Due": "due",
        "In the queue": "waiting",
        "Running": "running",
        "Failed": "failed",
        "Not carried out": "broken",
    }
    assert {name: int(value) for name, value in shown.items()} == {name: api[key] for name, key in names.items()}
    assert api["due"] == api["waiting"] == api["running"] == 1


def test_users_wait_too_long_only_when_nobody_dispatches_or_nobody_works(visitor: Visitor, db: Db) -> None:
    add_users(db, 1, due=db.now_ms() - LATE_MS // 2)
    fine = visitor.get("/schedules").text
    assert "nobody dispatches" not in fine
    assert ">due</span>" in fine
    add_users(db, 1, due=db.now_ms() - LATE_MS - SLACK_MS)
    fresh(visitor)
    late = visitor.get("/schedules").text
    assert "nobody dispatches" in late
    assert ">late</span>" in late


def test_every_user_is_on_one_page(visitor: Visitor, db: Db) -> None:
    ids = add_users(db, 2 * PAGE + 1)
    path, seen = "/schedules", []
    for _ in range(3):
        page = visitor.get(path).text
        seen += users_on(page)
        following = re.search(r'href="(/schedules\?after=[^"]+)" rel="next"', page)
        path = following[1] if following else ""
    assert seen == ids
    assert not path


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?email=u2", [2]), ("?email=nobody", []), ("?standing=off", [3]), ("?standing=failed", [4]),
        ("?standing=late", [1]), ("?standing=busy", []), ("?standing=lazy", [1, 2, 3, 4]),
    ],
)  # fmt: skip
def test_users_are_found(visitor: Visitor, db: Db, query: str, expected: list[int]) -> None:
    now = db.now_ms()
    add_users(db, 1, due=now - LATE_MS - SLACK_MS)
    add_users(db, 1, due=now + MINUTE)
    add_users(db, 1, due=now - DAY_MS, enabled=0)
    add_users(db, 1, due=now + MINUTE, last_status="failed")
    page = visitor.get(f"/schedules{query}").text
    assert users_on(page) == expected
    assert ("No user is like that" in page) == (not expected)


def test_a_place_that_leads_nowhere_is_told(visitor: Visitor) -> None:
    answer = visitor.get("/schedules?after=x")
    assert answer.status_code == 400
    assert "leads nowhere" in answer.text


def test_a_user_is_added_once(visitor: Visitor, db: Db) -> None:
    visitor.get("/schedules")
    assert put_in(visitor, "/schedules/new", new_email="Ann@x.test", interval_minutes="15") == "/schedules/1"
    assert "due at once" in visitor.get("/schedules/1").text
    assert schedule(1).interval_minutes == 15
    assert schedule(1).next_run_at <= db.now_ms() + SLACK_MS
    assert put_in(visitor, "/schedules/new", new_email=" ann@X.test ", interval_minutes="30") == "/schedules/1"
    assert "was there already" in visitor.get("/schedules/1").text
    assert schedule(1).interval_minutes == 15, "not changed in passing"


@pytest.mark.parametrize(
    ("email", "minutes", "field"),
    [
        ("ann", "5", "email"), ("", "5", "email"), ("7", "5", "email"), (NASTY, "5", "email"),
        ("ann@x.test", "0", "interval_minutes"), ("ann@x.test", "1441", "interval_minutes"),
        ("ann@x.test", "", "interval_minutes"), ("ann@x.test", "five", "interval_minutes"),
        ("ann@x.test", "9" * 30, "interval_minutes"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_new_user_stands_at_its_field(
    visitor: Visitor, db: Db, email: str, minutes: str, field: str
) -> None:
    visitor.get("/schedules")
    answer = visitor.post("/schedules/new", new_email=email, interval_minutes=minutes)
    assert answer.status_code == 400
    assert f'id="wrong-{field}" role="alert"' in answer.text
    assert f'aria-describedby="wrong-{field}"' in answer.text
    assert "<script>alert" not in answer.text
    assert db.value("SELECT COUNT(*) FROM users") == 0


# -- one user ------------------------------------------------------------------------------------


def test_a_user_who_is_not_there_is_not_found(visitor: Visitor) -> None:
    for path in ("/schedules/9", "/schedules/9/live", "/schedules/9/targets/new", "/schedules/9/targets/1"):
        assert visitor.get(path).status_code == 404, path


def test_the_page_of_a_user_tells_what_the_last_runs_came_to(visitor: Visitor, db: Db) -> None:
    now = db.now_ms()
    (user,) = add_users(db, 1, due=now - 90_000, skipped=3, overruns=2, interruptions=1)
    claim_due(db, "t", now - 60_000, 900_000, 1)
    begun = start(db, user, "t", now - 60_000)
    assert begun
    finish(db, begun, RunStatus.FAILED, f"shop: {NASTY}", 2500, 4)
    page = visitor.get(f"/schedules/{user}").text
    shown = figures(page)
    assert (shown["Skipped"], shown["Overruns"], shown["Interrupted"], shown["Runs"]) == ("3", "2", "1", "1")
    assert (shown["Last run"], shown["Took"]) == ("failed", "2.5 s")
    assert "<script>alert" not in page
    assert "30 s</td>" in page, "how late the run began"


def test_a_run_is_asked_for_and_nothing_else_is_possible_meanwhile(visitor: Visitor, db: Db) -> None:
    now = db.now_ms()
    (user,) = add_users(db, 1, due=now + 3 * MINUTE)
    rhythm = schedule(user).next_run_at
    page = visitor.get(f"/schedules/{user}").text
    assert "Run now" in page
    assert datetime.fromtimestamp(rhythm / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") in page, "when the rhythm goes on"
    put_in(visitor, f"/schedules/{user}/run")
    assert schedule(user).next_run_at <= db.now_ms() + SLACK_MS

    claim_due(db, "t", db.now_ms(), 900_000, 1)
    fresh(visitor)
    waiting = visitor.get(f"/schedules/{user}").text
    assert f'action="/schedules/{user}/run"' not in waiting
    refused = visitor.post(f"/schedules/{user}/run")
    assert refused.status_code == 409
    assert "waits in the queue already" in refused.text


@pytest.mark.parametrize("begun", [False, True], ids=["queued", "running"])
def test_a_user_is_taken_out_of_somebodys_hands(visitor: Visitor, db: Db, begun: bool) -> None:
    now = db.now_ms()
    (user,) = add_users(db, 1, due=now - 1000)
    assert "Unlock" not in visitor.get(f"/schedules/{user}").text
    claim_due(db, "t", now, 900_000, 1)
    if begun:
        start(db, user, "t", now)
    fresh(visitor)
    page = visitor.get(f"/schedules/{user}").text
    assert "Unlock" in page
    assert ("counts as interrupted" in page) == begun, "the question says what it will do"
    put_in(visitor, f"/schedules/{user}/unlock")
    assert schedule(user).state is ScheduleState.IDLE
    assert schedule(user).interruptions == int(begun)
    put_in(visitor, f"/schedules/{user}/unlock")
    assert "Nobody had this user" in visitor.get(f"/schedules/{user}").text


def test_a_lock_that_ran_out_is_shown(visitor: Visitor, db: Db) -> None:
    now = db.now_ms()
    locked: dict[str, Any] = {"locked_by": "t", "locked_until": now - 1, "period": now, "started_period": now}
    (user,) = add_users(db, 1, due=now + MINUTE, last_run_at=now - 90_000, **locked)
    assert "lock has run out" in visitor.get(f"/schedules/{user}").text


def test_checks_are_switched_off_and_on_and_the_interval_is_set(visitor: Visitor, db: Db) -> None:
    (user,) = add_users(db, 1, due=db.now_ms() + MINUTE)
    visitor.get(f"/schedules/{user}")
    put_in(visitor, f"/schedules/{user}/switch", enabled="0")
    off = visitor.get(f"/schedules/{user}").text
    assert schedule(user).state is ScheduleState.OFF
    assert "Run now" not in off
    put_in(visitor, f"/schedules/{user}/switch", enabled="1")
    assert schedule(user).enabled == 1
    assert visitor.post(f"/schedules/{user}/switch", enabled="yes").status_code == 400
    put_in(visitor, f"/schedules/{user}/interval", interval_minutes="1440")
    assert schedule(user).interval_minutes == 1440
    for wrong in ("0", "1441", "", "-1", "1.5", NASTY):
        answer = visitor.post(f"/schedules/{user}/interval", interval_minutes=wrong)
        assert answer.status_code == 400
        assert 'id="wrong-interval_minutes"' in answer.text
        assert "<script>alert" not in answer.text
    assert schedule(user).interval_minutes == 1440
    trail = [(one.action, one.detail) for one in entries(db, 20, action="schedule.")]
    assert ("schedule.every", "303: u1@example.test: on, 1440 min") in trail
    assert ("schedule.switch", "303: u1@example.test: off, 5 min") in trail
