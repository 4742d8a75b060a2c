"""/api/servers: SMTP servers over HTTP; no secret of this machine leaves it that way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis
from flask import Flask

from app.config import Settings
from app.db import Db
from app.mail.cooldown import Spot, Trouble
from app.mail.limits import History, Limiter, Refusal
from app.mail.server_changes import server_by_id
from app.mail.server_fields import OWN_VARIABLES
from app.mail.server_views import limits_of, server_document, server_views
from app.models.tables import Campaign, Server
from app.web import tries
from app.web.application import create_app
from app.web.audit import entries
from app.web.tries import tried
from tests.sending import NOW, add_list, add_people, draft, start
from tests.smtp_faults import on, silent
from tests.smtp_server import Offers, SmtpServer
from tests.web import Caller, caller, error_of

NEW: dict[str, Any] = {"name": "one", "host": "smtp.example.com", "port": 587, "tls": "starttls"}
LOGIN: dict[str, Any] = {"user": "me", "password_env": "ONE_PASSWORD"}


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=9")


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setenv("ONE_PASSWORD", "tr0ub4dor")
    return create_app(here, db=db)


@pytest.fixture
def admin(app: Flask) -> Caller:
    return caller(app)


def add(admin: Caller, **fields: Any) -> dict[str, Any]:
    response = admin.post("/api/servers", {**NEW, **fields})
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.get_json()
    return found


def test_a_server_is_added_and_seen_as_the_command_shows_it(admin: Caller, db: Db, client: redis.Redis) -> None:
    assert admin.get("/api/servers").get_json() == []
    limits = {"per_second": 5, "per_minute": 100, "per_hour": 1000, "per_day": 9000}
    made = add(admin, **limits, max_connections=3, timezone="Asia/Singapore", weight=2)
    assert made["limits"] == limits
    assert made["used"] == dict.fromkeys(limits, 0)
    assert (made["can_send"], made["connections"], made["max_connections"], made["weight"]) == (True, 0, 3, 2)
    assert made["today"] == {"attempts": 0, "sent": 0, "failed": 0, "deferred": 0, "unknown": 0}
    assert admin.get("/api/servers").get_json() == [made]
    assert admin.get(f"/api/servers/{made['id']}").get_json() == made
    (view,) = server_views(db, client, db.now_ms())
    told = server_document(view)
    assert {name: made[name] for name in told} == told
    assert admin.get("/api/servers/99").status_code == 404
    twice = admin.post("/api/servers", NEW)
    assert (twice.status_code, error_of(twice)["field"]) == (409, "name")


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"name": None}, "name", "must be text"),
        ({"name": " "}, "name", "name is missing"),
        ({"name": "a\nb"}, "name", "in one line"),
        ({"name": "x" * 101}, "name", "1 to 100"),
        ({"host": "a b"}, "host", "host='a b' is not allowed"),
        ({"host": "a\0b"}, "host", "is not allowed"),
        ({"host": "h" * 254}, "host", "1 to 253"),
        ({"port": 0}, "port", "port=0"),
        ({"port": "25"}, "port", "a whole number"),
        ({"port": True}, "port", "a whole number"),
        ({"tls": "ssl"}, "tls", "none, starttls, tls"),
        ({"tls_ca": "/nowhere.pem"}, "tls_ca", "no such file"),
        ({"per_day": 0}, "per_day", "per_day=0 is not allowed"),
        ({"per_day": 3_000_000_000}, "per_day", "1000000000"),
        ({"max_connections": 1.5}, "max_connections", "a whole number"),
        ({"weight": 1001}, "weight", "weight=1001"),
        ({"timezone": "../../etc/passwd"}, "timezone", "timezone='../../etc/passwd'"),
        ({"user": "u"}, "password_env", "user and password_env go together"),
        ({"password_env": "V_PASSWORD"}, "user", "go together"),
        ({"user": "u" * 201, "password_env": "V_PASSWORD"}, "user", "1 to 200"),
        ({"user": "u", "password_env": "V_PASSWORD", "tls": "none"}, "tls", "in clear"),
        ({"user": "u", "password_env": "V-_PASSWORD"}, "password_env", "names the variable"),
        ({"password": "x"}, "password", "not known here"),
    ],
)
def test_what_cannot_work_is_refused_by_its_field(
    admin: Caller, db: Db, change: dict[str, Any], field: str, said: str
) -> None:
    refused = admin.post("/api/servers", {**NEW, **change})
    error = error_of(refused)
    assert (refused.status_code, error["field"]) == (400, field)
    assert said in error["message"]
    assert "--" not in error["message"]
    assert Server.select().count() == 0
    add(admin)
    if "name" not in change and "password" not in change:
        assert error_of(admin.ask("PATCH", "/api/servers/1", json=change))["field"] == field


@pytest.mark.parametrize("name", [*sorted(OWN_VARIABLES), "AWS_SECRET_ACCESS_KEY", "PATH"])
def test_no_other_variable_of_this_machine_is_had_sent_to_a_host_of_the_callers(
    admin: Caller, db: Db, name: str
) -> None:
    add(admin, **LOGIN)
    for method, path, more in (("POST", "/api/servers", {**NEW, "name": "two"}), ("PATCH", "/api/servers/1", {})):
        refused = admin.ask(method, path, json={**more, "user": "me", "password_env": name})
        assert (refused.status_code, error_of(refused)["field"]) == (400, "password_env")
    assert [one.password_env for one in Server.select()] == ["ONE_PASSWORD"]


def test_what_a_person_has_said_is_for_those_who_may_change_it(admin: Caller, app: Flask, db: Db) -> None:
    add(admin, **LOGIN, per_day=9)
    said = admin.get("/api/servers/1/settings").get_json()
    assert (said["user"], said["password_env"], said["password_known"], said["per_day"]) == (
        "me", "ONE_PASSWORD", True, 9,
    )  # fmt: skip
    changes = {key: value for key, value in said.items() if key not in ("id", "name", "password_known")}
    assert admin.ask("PATCH", "/api/servers/1", json=changes).get_json()["changed"] == []
    for scope in ("read", "send"):
        reader = caller(app, scope)
        assert reader.get("/api/servers/1/settings").status_code == 403
        for path in ("/api/servers", "/api/servers/1"):
            assert "ONE_PASSWORD" not in reader.get(path).text
            assert '"me"' not in reader.get(path).text


def test_what_is_left_out_stays_and_null_takes_away(admin: Caller, db: Db, here: Settings) -> None:
    add(admin, **LOGIN, per_day=100, per_hour=10)
    add_list(db, "all", add_people(db, 1))
    campaign = draft(db, ["all"])
    start(db, campaign)
    Campaign.update(held_until=NOW * 2, held_by="day limit of server one").execute()
    done = admin.ask(
        "PATCH", "/api/servers/1", json={"per_day": 200, "per_hour": None, "user": None, "password_env": None}
    )
    document = done.get_json()
    assert document["limits"] == {"per_second": None, "per_minute": None, "per_hour": None, "per_day": 200}
    assert (document["changed"], document["released"]) == (["password_env", "per_day", "per_hour", "user"], 1)
    assert document["campaigns"] == [campaign]
    assert error_of(admin.ask("PATCH", "/api/servers/1", json={"host": " "}))["field"] == "host"
    assert error_of(admin.ask("PATCH", "/api/servers/1", json={"name": "two"}))["field"] == "name"
    trail = [(one.action, one.subject, one.detail) for one in entries(db, 10)]
    assert ("servers.change", "1", "200: one: password_env, per_day, per_hour, username") in trail


def test_the_first_limit_counts_what_was_sent_before(admin: Caller, db: Db, client: redis.Redis) -> None:
    id_ = add(admin)["id"]
    db.run(
        "INSERT INTO deliveries (server_id, minute, campaign_id, attempts, sent, deferred) "
        "VALUES (?, ?, 1, 60, 50, 10)",
        id_, db.now_ms() // 60_000,
    )  # fmt: skip
    admin.ask("PATCH", f"/api/servers/{id_}", json={"per_day": 50, "timezone": "UTC"})
    assert isinstance(Limiter(client, History(db)).reserve(id_, "one", limits_of(server_by_id(id_)), 1), Refusal)
    found = admin.get(f"/api/servers/{id_}").get_json()
    assert (found["blocked_by"], found["used"]["per_day"]) == ("day limit of server one", 60)
    assert found["today"] == {"attempts": 60, "sent": 50, "failed": 0, "deferred": 10, "unknown": 0}


def test_a_server_is_paused_resumed_and_cooled(admin: Caller, db: Db) -> None:
    id_ = add(admin)["id"]
    at = f"/api/servers/{id_}"
    for action, state, changed in (
        ("pause", "paused", True), ("pause", "paused", False), ("resume", "active", True), ("resume", "active", False),
        ("cool", "active", False),
    ):  # fmt: skip
        assert admin.post(f"{at}/{action}", {}).get_json() == {"id": id_, "state": state, "changed": changed}
    Spot(id_, "one").cool_down(db, Trouble(), "421 busy", db.now_ms())
    cooling = admin.get(at).get_json()
    assert (cooling["can_send"], cooling["blocked_by"], cooling["cooldown_step"]) == (False, "421 busy", 1)
    assert cooling["free_at"] == cooling["cooldown_until"]
    db.run("UPDATE servers SET cooldown_until = 1, trial_until = ?", db.now_ms() + 60_000)
    trying = admin.get(at).get_json()
    assert (trying["cooldown_until"], trying["cooldown_reason"]) == (None, "421 busy")
    assert trying["trial_until"] is not None
    assert admin.post(f"{at}/cool", {}).get_json()["changed"] is True
    assert admin.get(at).get_json()["cooldown_step"] == 0


def test_a_server_is_removed_unless_a_campaign_has_no_other(admin: Caller, db: Db) -> None:
    id_ = add(admin)["id"]
    add_list(db, "all", add_people(db, 1))
    campaign = draft(db, ["all"])
    refused = admin.ask("DELETE", f"/api/servers/{id_}")
    assert (refused.status_code, error_of(refused)["code"]) == (409, "refused")
    db.run("UPDATE campaigns SET status = 'cancelled' WHERE id = ?", campaign)
    assert admin.ask("DELETE", f"/api/servers/{id_}").get_json() == {"id": id_, "removed": True, "campaigns": []}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("GET", "/settings"), ("PATCH", "")):
        assert admin.ask(method, f"/api/servers/{id_}{path}", json={}).status_code == 404
    assert admin.get("/api/servers").get_json() == []


def test_without_redis_servers_are_seen_and_what_is_used_is_not_known(db: Db, here: Settings, tmp_path: Any) -> None:
    admin = caller(create_app(replace(here, redis_url=f"unix://{tmp_path}/none.sock"), db=db))
    made = add(admin, per_day=5, max_connections=2)
    assert (made["can_send"], made["used"], made["connections"]) == (False, None, None)
    assert "Redis does not answer" in made["blocked_by"]


# -- trying one out ------------------------------------------------------------------------------------


def test_every_step_is_told_and_a_mail_is_sent(admin: Caller, db: Db, caplog: pytest.LogCaptureFixture) -> None:
    with SmtpServer(Offers(users={"me": "tr0ub4dor"})) as server:
        id_ = add(admin, host="127.0.0.1", port=server.port, tls="none", **LOGIN)["id"]
        document = admin.post(f"/api/servers/{id_}/test", {}).get_json()
        assert (document["ok"], document["error"]) == (True, None)
        words = ("connecting to 127.0.0.1:", "connected: 220", "EHLO: ", "AUTH as me: 235", "QUIT: 221")
        assert [step for step, word in zip(document["steps"], words, strict=True) if word not in step] == []
        assert server.mails == []
        sent = admin.post(f"/api/servers/{id_}/test", {"to": "me@example.com", "from": "shop@example.com"})
        assert "mail from shop@example.com to me@example.com: 250" in sent.get_json()["steps"][-1]
        assert [(m.sender, m.recipients) for m in server.mails] == [("shop@example.com", ("me@example.com",))]
        assert b"Subject: Test of server one" in server.mails[0].content
        assert server.violations == []
    trail = [one.detail for one in entries(db, 2)]
    assert trail[0] == "200: one, mail to me@example.com, passed"
    assert "tr0ub4dor" not in f"{trail}{document}{sent.text}{[record.__dict__ for record in caplog.records]}"


def test_the_step_that_fails_is_told(admin: Caller, db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    with SmtpServer(Offers(users={"me": "another"})) as server:
        id_ = add(admin, host="127.0.0.1", port=server.port, tls="none", **LOGIN)["id"]
        document = admin.post(f"/api/servers/{id_}/test", {"to": None}).get_json()
        assert document["ok"] is False
        assert "rejected the user name or password" in document["error"]
        assert "EHLO" in document["steps"][-1]
        monkeypatch.delenv("ONE_PASSWORD")
        assert "ONE_PASSWORD" in admin.post(f"/api/servers/{id_}/test", {}).get_json()["error"]


@pytest.mark.parametrize(
    "address", ["nobody", "a@b.example\r\nBcc: c@d.example", "<a@b.example>", "a@b.example,c@d.example"]
)
def test_an_address_that_is_none_is_refused_before_anything_is_sent(admin: Caller, address: str) -> None:
    with SmtpServer() as server:
        id_ = add(admin, host="127.0.0.1", port=server.port, tls="none")["id"]
        for said in ({"to": address}, {"to": "a@b.example", "from": address}):
            refused = admin.post(f"/api/servers/{id_}/test", said)
            assert (refused.status_code, error_of(refused)["field"]) == (400, list(said)[-1])
        assert server.connections == 0


def test_a_server_that_never_answers_keeps_nobody_waiting(admin: Caller, db: Db, here: Settings) -> None:
    with SmtpServer(plan=on("EHLO", silent())) as server:
        found = server_by_id(add(admin, host="127.0.0.1", port=server.port, tls="none")["id"])
        outcome = tried(db, here, found, "", "", seconds=0.2)
        assert (outcome.ok, outcome.error) == (False, "not done after 0.2 seconds, given up")
        assert outcome.steps[-1].startswith("connected: 220")
        # Each leaves its place to the next.
        for _ in range(tries.MOST_AT_ONCE):
            assert tried(db, here, found, "", "", seconds=0.2).steps == outcome.steps


def test_only_few_are_tried_out_at_a_time(admin: Caller) -> None:
    id_ = add(admin)["id"]
    for _ in range(tries.MOST_AT_ONCE):
        tries._places.acquire()
    try:
        busy = admin.post(f"/api/servers/{id_}/test", {})
        assert (busy.status_code, error_of(busy)["code"]) == (503, "unavailable")
    finally:
        for _ in range(tries.MOST_AT_ONCE):
            tries._places.release()


def test_who_may_only_look_or_send_has_no_connection_opened(app: Flask, admin: Caller) -> None:
    with SmtpServer() as server:
        at = f"/api/servers/{add(admin, host='127.0.0.1', port=server.port, tls='none')['id']}"
        for scope in ("read", "send"):
            one = caller(app, scope)
            for method, path in (
                ("POST", "/api/servers"), ("PATCH", at), ("DELETE", at), ("POST", f"{at}/pause"),
                ("POST", f"{at}/resume"), ("POST", f"{at}/cool"), ("POST", f"{at}/test"),
            ):  # fmt: skip
                assert one.ask(method, path, json={}).status_code == 403
        assert server.connections == 0
