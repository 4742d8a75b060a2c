"""What the API tells of all schedules together, whom it finds, and how it lets go of a user."""

from __future__ import annotations

import pytest
from flask import Flask

from app.config import Settings
from app.db import Db
from app.models.schedules import ScheduleState
from app.schedules.claims import claim_due, start
from app.schedules.search import LATE_MS
from app.schedules.times import MINUTE
from app.web.application import create_app
from app.web.audit import entries
from tests.schedules.people import SLACK_MS, add_users, schedule
from tests.web import Caller, caller, error_of


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    return create_app(settings, db=db)


@pytest.fixture
def me(app: Flask) -> Caller:
    return caller(app)


def emails(me: Caller, query: str) -> list[str]:
    answer = me.get(f"/api/schedules?{query}")
    assert answer.status_code == 200, answer.text
    return [one["user"]["email"] for one in answer.get_json()]


def test_the_overview_counts_users_by_what_they_wait_for(me: Caller, db: Db) -> None:
    now = db.now_ms()
    add_users(db, 3, due=now - LATE_MS - SLACK_MS)
    add_users(db, 2, due=now + MINUTE, last_status="failed")
    add_users(db, 1, due=now + MINUTE, last_status="interrupted")
    add_users(db, 4, due=now + MINUTE, enabled=0)
    claim_due(db, "t", now, 900_000, 2)
    start(db, 1, "t", now)

    found = me.get("/api/schedules/overview").get_json()

    assert LATE_MS <= found.pop("lag_ms") < LATE_MS + 60_000
    assert found.pop("oldest_due_at")
    assert found == {"due": 1, "late": 1, "waiting": 1, "running": 1, "failed": 2, "broken": 1, "off": 4}


def test_users_are_found_by_address_and_standing_with_the_way_to_the_next_page(me: Caller, db: Db) -> None:
    now = db.now_ms()
    add_users(db, 12, due=now + MINUTE)
    add_users(db, 3, due=now + MINUTE, enabled=0)
    assert emails(me, "email=U12") == ["u12@example.test"]
    first = me.get("/api/schedules?email=u1&limit=2")
    assert [one["user"]["id"] for one in first.get_json()] == [10, 11]
    assert first.headers["Link"] == '</api/schedules?limit=2&email=u1&after=11>; rel="next"'
    off = me.get("/api/schedules?standing=off&limit=2")
    following = off.headers["Link"].partition("<")[2].partition(">")[0]
    rest = me.get(following)
    assert [one["user"]["id"] for page in (off, rest) for one in page.get_json()] == [13, 14, 15]
    assert "Link" not in rest.headers


@pytest.mark.parametrize(
    ("query", "field"),
    [("standing=lazy", "standing"), ("after=x", None), ("standing=off&email=a", None), (f"email={'x' * 400}", "email")],
)
def test_a_search_that_makes_no_sense_is_refused(me: Caller, query: str, field: str | None) -> None:
    answer = me.get(f"/api/schedules?{query}")
    assert (answer.status_code, error_of(answer)["field"]) == (400, field)


def test_a_user_in_somebodys_hands_is_let_go_of_once(me: Caller, db: Db) -> None:
    now = db.now_ms()
    waiting, going = add_users(db, 2, due=now - 1000)
    claim_due(db, "t", now, 900_000, 2)
    start(db, going, "t", now)

    assert me.post(f"/api/schedules/{waiting}/unlock", {}).get_json() == {"unlocked": True}
    assert me.post(f"/api/schedules/u{going}@example.test/unlock", {}).get_json() == {"unlocked": True}
    assert me.post(f"/api/schedules/{waiting}/unlock", {}).get_json() == {"unlocked": False}

    assert schedule(waiting).state is ScheduleState.IDLE
    assert schedule(waiting).next_run_at == now - 1000, "still due"
    assert (schedule(going).last_status, schedule(going).interruptions) == ("interrupted", 1)
    assert [one.action for one in entries(db, 10, action="schedules.unlock")] == ["schedules.unlock"] * 3


def test_nobody_is_let_go_of_who_is_not_there(me: Caller) -> None:
    assert me.post("/api/schedules/99/unlock", {}).status_code == 404


def test_the_field_of_a_target_that_cannot_be_is_named(me: Caller) -> None:
    http = {"kind": "http", "url": "http://x.test/", "name": "shop"}
    assert me.post("/api/schedules/ann@x.test/targets", http).status_code == 201
    for fields, field in (
        ({**http, "url": "http://127.0.0.1/"}, "url"),
        ({**http, "webhook": "http://10.0.0.1/hook"}, "webhook"),
        ({"kind": "tcp", "host": "10.0.0.1", "port": 25}, "host"),
        (http, "name"),
    ):
        answer = me.post("/api/schedules/ann@x.test/targets", fields)
        assert (answer.status_code, error_of(answer)["field"]) == (409, field)
