"""Dispatches over HTTP: three modes and their refusals."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack

import pytest
from flask import Flask

from app.config import ROOT, Settings
from app.db import Db
from app.queues import keys
from app.schedules.claims import claim_due, start
from app.schedules.times import MINUTE
from app.secrets import make_secrets, secret
from app.web.application import create_app
from app.web.cron import AT_ONCE
from app.web.server import THREADS
from tests.checks.site import Site, Visit
from tests.checks.targets import add_http
from tests.ports import free_port
from tests.schedules.conftest import Cron
from tests.schedules.people import Checks, add_users, schedule
from tests.web import caller, error_of
from tests.working import eventually


def due(db: Db, count: int) -> list[int]:
    return add_users(db, count, due=db.now_ms() - 1000)


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


def test_calls_that_take_minutes_leave_threads_to_the_console(
    app: Flask, db: Db, cron: Cron, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, begun, done = due(db, AT_ONCE + 1), threading.Semaphore(0), threading.Event()
    monkeypatch.setattr("app.web.cron.PATIENCE", 0.05)

    def linger(user_id: int, stop: threading.Event) -> None:
        begun.release()
        assert done.wait(60)

    monkeypatch.setattr("app.web.cron.run_checks", Checks(during=linger))
    codes: list[int] = []
    calls = [
        threading.Thread(target=lambda user=user: codes.append(cron.ask({"userId": user}).status_code))
        for user in users[:AT_ONCE]
    ]
    for call in calls:
        call.start()
    for _ in calls:
        assert begun.acquire(timeout=60)

    for body in ({"userId": users[-1]}, {"mode": "sync"}):
        refused = cron.ask(body)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "60")
        assert "making checks already" in error_of(refused)["message"]
    assert cron.get()["users"] == [f"u{users[-1]}@example.test"], "enqueuing takes no place"
    assert AT_ONCE < THREADS
    done.set()
    for call in calls:
        call.join()

    assert codes == [200] * AT_ONCE
    assert cron.ask({"userId": users[-1]}).status_code == 200


#: gunicorn with a time-out of 10 seconds, where its default is thirty; its main loop shows itself once a second.
IMPATIENT = "from app.web import server; server.OPTIONS['timeout'] = 10; from app.web.main import main; main([])"


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_call_longer_than_the_servers_time_out_is_answered(db: Db, settings: Settings) -> None:
    make_secrets(settings)
    (user,) = due(db, 1)
    port = free_port()
    environ = {
        **os.environ, "PYTHONPATH": str(ROOT), "MAILCREW_HOME": str(settings.home), "HTTP_BIND": f"127.0.0.1:{port}",
        "DATABASE_URL": settings.database_url, "REDIS_URL": "unix:///nonexistent", "ALLOW_PRIVATE_ADDRESSES": "all",
    }  # fmt: skip

    def slow(visit: Visit) -> None:
        time.sleep(13)  # the time-out and more: that is what is tested
        visit.say(200, b"at last")

    with ExitStack() as stack, Site({"/": slow}) as site:
        add_http(db, user, site.url("/"), timeout_seconds=30)
        web = stack.enter_context(
            subprocess.Popen([sys.executable, "-c", IMPATIENT], env=environ, stdout=subprocess.DEVNULL)
        )
        stack.callback(web.kill)
        ask = urllib.request.Request(f"http://127.0.0.1:{port}/api/cron/dispatch", b'{"mode":"sync"}')
        ask.add_header("x-cron-secret", secret(settings, "CRON_SECRET"))
        eventually(lambda: answers(port), "it serves")
        with urllib.request.urlopen(ask, timeout=60) as answer:
            document = json.load(answer)

    assert [(one["status"], one["checks"]) for one in document["results"]] == [("ok", 1)]
    assert document["duration_ms"] >= 13_000


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
