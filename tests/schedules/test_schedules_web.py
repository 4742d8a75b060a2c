"""Schedules and dispatches over HTTP: three modes, their refusals, and what scripts read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.config import Settings
from app.db import Db
from app.models.schedules import User
from app.queues import keys
from app.schedules.claims import claim_due, start
from app.schedules.times import MINUTE
from app.secrets import secret
from app.web.application import create_app
from tests.schedules.people import Checks, Said, add_users, schedule
from tests.web import Caller, caller, error_of

KEYS = {"mode", "dispatched", "users", "errors", "duration_ms", "queue"}


@pytest.fixture
def app(settings: Settings, db: Db, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.delenv("CRON_SECRET", raising=False)
    made = create_app(settings, db=db)
    made.extensions["mailcrew"].redis.flushdb()
    yield made
    made.extensions["mailcrew"].redis.close()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    """Stands in for the requests to targets, which have tests of their own."""
    made = Checks(Said("failed", "shop: status 500", 2))
    monkeypatch.setattr("app.web.cron.run_checks", made)
    return made


class Cron:
    """A crontab that knows the secret, or says another."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._caller = Caller(app)
        self.secret = secret(settings, "CRON_SECRET")

    def ask(self, document: object = None, path: str = "dispatch", **headers: str) -> TestResponse:
        body = {} if document is None else {"json": document}
        return self._caller.ask("POST", f"/api/cron/{path}", headers=headers or {"x-cron-secret": self.secret}, **body)

    def get(self, document: object = None, path: str = "dispatch") -> dict[str, Any]:
        response = self.ask(document, path)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.get_json()
        assert set(found) >= KEYS
        return found


@pytest.fixture
def cron(app: Flask, settings: Settings) -> Cron:
    return Cron(app, settings)


def due(db: Db, count: int) -> list[int]:
    return add_users(db, count, due=db.now_ms() - 1000)


# -- dispatching ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["dispatch", "one-click-start"])
def test_without_a_body_whoever_is_due_is_enqueued(app: Flask, db: Db, cron: Cron, path: str) -> None:
    due(db, 3)
    add_users(db, 1, due=db.now_ms() + MINUTE)

    answer = cron.get(path=path)

    assert (answer["mode"], answer["dispatched"], answer["errors"]) == ("queue", 3, [])
    assert sorted(answer["users"]) == ["u1@example.test", "u2@example.test", "u3@example.test"]
    assert answer["queue"] == {"waiting": 3, "active": 0}
    assert app.extensions["mailcrew"].redis.llen(keys.waiting("monitor")) == 3
    assert cron.get(path=path)["dispatched"] == 0


@pytest.mark.parametrize(
    "said", [{"userId": 2}, {"userId": "2"}, {"email": "U2@Example.test"}, {"mode": "direct", "userId": 2}]
)
def test_one_user_is_run_at_once_and_the_answer_has_the_result(
    db: Db, cron: Cron, checks: Checks, said: dict[str, object]
) -> None:
    add_users(db, 2, due=db.now_ms() + MINUTE)

    answer = cron.get(said)

    assert (answer["mode"], answer["dispatched"], answer["users"]) == ("direct", 1, ["u2@example.test"])
    assert checks.made == [2]
    assert {k: answer["result"][k] for k in ("user", "status", "error", "checks")} == {
        "user": "u2@example.test", "status": "failed", "error": "shop: status 500", "checks": 2,
    }  # fmt: skip


def test_sync_runs_what_is_due_here_with_redis_switched_off(settings: Settings, db: Db, checks: Checks) -> None:
    off = Settings(**{**settings.__dict__, "redis_url": "unix:///nonexistent/redis.sock"})
    cron = Cron(create_app(off, db=db), settings)
    due(db, 3)

    answer = cron.get({"mode": "sync"})

    assert (answer["mode"], answer["dispatched"]) == ("sync", 3)
    assert sorted(checks.made) == [1, 2, 3]
    assert [result["status"] for result in answer["results"]] == ["failed"] * 3
    assert answer["queue"] == {"waiting": 0, "active": 0}


def test_without_redis_nobody_is_enqueued_and_nobody_lost(settings: Settings, db: Db, checks: Checks) -> None:
    off = Settings(**{**settings.__dict__, "redis_url": "unix:///nonexistent/redis.sock"})
    cron = Cron(create_app(off, db=db), settings)
    (user,) = due(db, 1)

    response = cron.ask()

    assert response.status_code == 503
    assert "Sync mode runs them without Redis" in error_of(response)["message"]
    assert schedule(user).locked_by is None
    assert cron.get({"mode": "sync"})["dispatched"] == 1


def test_a_user_whose_run_is_going_is_refused(db: Db, cron: Cron, checks: Checks) -> None:
    (user,) = due(db, 1)
    claim_due(db, "t" * 32, db.now_ms(), 900_000, 1)
    start(db, user, "t" * 32, db.now_ms())
    response = cron.ask({"userId": user})
    assert response.status_code == 409
    assert "are running" in error_of(response)["message"]
    assert checks.made == []


@pytest.mark.parametrize("path", ["dispatch", "one-click-start"])
@pytest.mark.parametrize(
    "headers", [{"x-nothing": "1"}, {"x-cron-secret": "wrong"}, {"x-cron-secret": ""}, {"x-cron-secret": "é"}]
)
def test_a_missing_or_wrong_secret_is_refused(db: Db, cron: Cron, path: str, headers: dict[str, str]) -> None:
    due(db, 1)
    response = cron.ask(path=path, **headers)
    assert response.status_code == 401
    assert error_of(response)["code"] == "unauthorized"
    assert schedule(1).locked_by is None


def test_a_token_is_no_secret(app: Flask) -> None:
    assert caller(app).post("/api/cron/dispatch", {}).status_code == 401


def test_a_secret_set_to_nothing_switches_the_route_off(cron: Cron, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_SECRET", "")
    for headers in ({"x-cron-secret": ""}, {"x-cron-secret": cron.secret}, {"x-other": "1"}):
        response = cron.ask(**headers)
        assert response.status_code == 500
        assert "CRON_SECRET is set to nothing" in error_of(response)["message"]
    monkeypatch.setenv("CRON_SECRET", "of my own")
    assert cron.ask(**{"x-cron-secret": "of my own"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"mode": "now"}, "mode"),
        ({"mode": "direct"}, "mode"),
        ({"mode": "sync", "userId": 1}, "mode"),
        ({"userId": 1, "email": "a@b.test"}, "email"),
        ({"userId": "x"}, "userId"),
        ({"userId": True}, "userId"),
        ({"userId": None}, "userId"),
        ({"email": 5}, "email"),
        ({"user": 5}, "user"),
    ],
)
def test_a_malformed_request_is_refused_with_the_field(cron: Cron, body: dict[str, object], field: str) -> None:
    response = cron.ask(body)
    assert response.status_code == 400
    assert error_of(response)["field"] == field


def test_what_curl_sends_without_being_told_is_read_too(app: Flask, db: Db, cron: Cron, checks: Checks) -> None:
    (user,) = due(db, 1)
    secret_of_mine, form = {"x-cron-secret": cron.secret}, "application/x-www-form-urlencoded"
    sent = app.test_client().post(
        "/api/cron/dispatch", headers=secret_of_mine, data=json.dumps({"userId": user}), content_type=form
    )
    assert sent.get_json()["mode"] == "direct"
    broken = app.test_client().post("/api/cron/dispatch", headers=secret_of_mine, data="mode=sync", content_type=form)
    assert (broken.status_code, error_of(broken)["code"]) == (400, "bad_request")


def test_an_unknown_user_is_not_found(cron: Cron) -> None:
    assert cron.ask({"userId": 99}).status_code == 404
    assert cron.ask({"email": "nobody@example.test"}).status_code == 404


# -- schedules -----------------------------------------------------------------------------------


def test_a_new_address_makes_a_user_who_is_due_at_once(app: Flask, db: Db) -> None:
    me = caller(app)
    made = me.ask("PUT", "/api/schedules/Ann@Example.com", json={})
    assert made.status_code == 201
    document = made.get_json()
    assert (document["enabled"], document["interval_minutes"], document["state"]) == (True, 5, "idle")
    assert schedule(document["user"]["id"]).next_run_at <= db.now_ms()
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
