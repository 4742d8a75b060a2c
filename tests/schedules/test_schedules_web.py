"""Schedules over HTTP: what people change, and what scripts read."""

from __future__ import annotations

import threading

import pytest
from flask import Flask

from app.db import Db
from app.models.schedules import User
from app.schedules.times import MINUTE
from app.web.console.formats import instant
from tests.console import logged_in
from tests.schedules.conftest import Cron
from tests.schedules.people import SLACK_MS, Checks, add_users, schedule
from tests.web import caller, error_of


def due(db: Db, count: int) -> list[int]:
    return add_users(db, count, due=db.now_ms() - 1000)


def test_a_new_address_makes_a_user_who_is_due_at_once(app: Flask, db: Db) -> None:
    me = caller(app)
    made = me.ask("PUT", "/api/schedules/Ann@Example.com", json={})
    assert made.status_code == 201
    document = made.get_json()
    assert (document["enabled"], document["interval_minutes"], document["state"]) == (True, 5, "idle")
    assert schedule(document["user"]["id"]).next_run_at <= db.now_ms() + SLACK_MS
    again = me.ask("PUT", "/api/schedules/ann@example.com", json={"interval_minutes": 7, "enabled": False})
    assert again.status_code == 200
    assert (again.get_json()["interval_minutes"], again.get_json()["state"]) == (7, "off")
    assert User.select().count() == 1
    assert me.get(f"/api/schedules/{document['user']['id']}").get_json() == again.get_json()


def test_two_that_make_the_same_user_at_once_make_one(app: Flask) -> None:
    me, gate, codes = caller(app), threading.Barrier(4), []

    def put() -> None:
        gate.wait()
        codes.append(me.ask("PUT", "/api/schedules/ann@example.com", json={"interval_minutes": 9}).status_code)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 200, 200, 201]
    assert User.select().count() == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"interval_minutes": 0}, "interval_minutes"),
        ({"interval_minutes": 1441}, "interval_minutes"),
        ({"interval_minutes": 2.5}, "interval_minutes"),
        ({"interval_minutes": True}, "interval_minutes"),
        ({"interval_minutes": None}, "interval_minutes"),
        ({"enabled": "yes"}, "enabled"),
        ({"every": 5}, "every"),
    ],
)
def test_a_bad_change_names_its_field_and_makes_nobody(app: Flask, body: dict[str, object], field: str) -> None:
    response = caller(app).ask("PUT", "/api/schedules/ann@example.com", json=body)
    assert response.status_code == 400
    assert error_of(response)["field"] == field
    assert User.select().count() == 0


def test_run_now_makes_due_at_once_and_keeps_the_rhythm(app: Flask, db: Db, cron: Cron) -> None:
    (user,) = add_users(db, 1, minutes=60, due=db.now_ms() + 30 * MINUTE)
    regular = schedule(user).next_run_at
    hint = logged_in(app).get(f"/schedules/{user}").text.partition("The rhythm stays; its next run is at")[2]
    assert hint.strip().startswith(str(instant(regular))), "the page promises it"

    me = caller(app)
    assert me.post(f"/api/schedules/{user}/run", {}).status_code == 200

    assert cron.get()["users"] == [f"u{user}@example.test"]
    assert schedule(user).next_run_at == regular
    again = me.post(f"/api/schedules/{user}/run", {})
    assert again.status_code == 409
    assert "waits in the queue" in error_of(again)["message"]


def test_who_may_only_read_changes_nothing(app: Flask, db: Db) -> None:
    (user,) = due(db, 1)
    reader = caller(app, "read")
    assert reader.get(f"/api/schedules/{user}").status_code == 200
    assert reader.ask("PUT", f"/api/schedules/{user}", json={"enabled": False}).status_code == 403
    assert reader.post(f"/api/schedules/{user}/run", {}).status_code == 403


def test_everybody_is_listed_page_by_page(app: Flask, db: Db) -> None:
    due(db, 5)
    me = caller(app)
    first = me.get("/api/schedules?limit=3")
    assert [one["user"]["id"] for one in first.get_json()] == [1, 2, 3]
    assert first.headers["Link"] == '</api/schedules?limit=3&after=3>; rel="next"'
    second = me.get("/api/schedules?limit=3&after=3")
    assert [one["user"]["id"] for one in second.get_json()] == [4, 5]
    assert "Link" not in second.headers


def test_the_runs_of_a_user_are_told_the_newest_first(app: Flask, db: Db, cron: Cron, checks: Checks) -> None:
    (user,) = due(db, 1)
    for _ in range(3):
        cron.get({"userId": user})
    runs = caller(app).get(f"/api/schedules/{user}/runs?limit=2").get_json()
    assert [run["status"] for run in runs] == ["failed", "failed"]
    assert runs[0]["started_at"] >= runs[1]["started_at"]
