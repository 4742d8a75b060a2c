"""/api/senders and /api/domains: over HTTP as by the commands."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask

from app import config
from app.cli.main import main
from app.config import Settings
from app.db import Db
from app.mail.cooldown import Spot, Trouble
from app.mail.limits.domain_defaults import DEFAULTS
from app.mail.servers import add_server
from app.web.application import create_app
from app.web.audit import entries
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.web import Caller, caller, error_of

SENDER = "news@shop.test"


@pytest.fixture
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MAILCREW_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    config.settings.cache_clear()
    yield settings
    config.settings.cache_clear()


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    return create_app(settings, db=db)


@pytest.fixture
def admin(app: Flask) -> Caller:
    return caller(app)


def of_command(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    server = add_server(name="one", host="h", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 5))
    campaign = draft(db, ["all"])
    start(db, campaign)
    expand(db, settings, campaign)
    Spot(server, "one", SENDER).cool_down(db, Trouble(), "450 slow down", db.now_ms())
    return campaign


def test_senders_are_told_as_the_command_tells_them(
    admin: Caller, db: Db, home: Settings, campaign: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (one,) = admin.get("/api/senders").get_json()
    assert (one["sender"], one["state"], one["campaigns"]) == (SENDER, "cooling", [campaign])
    assert [(c["server"], c["reason"]) for c in one["cooldowns"]] == [("one", "450 slow down")]
    assert [one] == of_command(capsys, "senders", "list")


def test_a_sender_is_paused_and_resumed_in_any_spelling(app: Flask, db: Db, campaign: int) -> None:
    sender = caller(app, "send")
    paused = sender.post("/api/senders/pause", {"sender": "Shop <News@Shop.test>", "reason": " on a\nblocklist "})
    assert paused.status_code == 200
    assert paused.get_json() == {"sender": SENDER, "changed": True, "in_hand": 0}
    (one,) = sender.get("/api/senders").get_json()
    assert (one["state"], one["reason"]) == ("paused", "on a blocklist")
    assert sender.post("/api/senders/pause", {"sender": SENDER}).get_json()["changed"] is False
    assert sender.post("/api/senders/resume", {"sender": SENDER.upper()}).get_json() == {
        "sender": SENDER, "changed": True,
    }  # fmt: skip
    assert sender.post("/api/senders/resume", {"sender": SENDER}).get_json()["changed"] is False
    assert ("senders.pause", f"200: {SENDER}") in [(entry.action, entry.detail) for entry in entries(db, 9)]


def test_what_workers_have_in_hand_is_told(app: Flask, db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.web.senders.QUIET_SECONDS", 0.05)
    db.run("UPDATE batches SET state = 'leased', token = 'x', lease_until = ?", db.now_ms() + 60_000)
    paused = caller(app, "send").post("/api/senders/pause", {"sender": SENDER})
    assert (paused.status_code, paused.get_json()["in_hand"]) == (202, 5)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "sender"), ({"sender": "nobody"}, "sender"), ({"sender": 5}, "sender"),
        ({"sender": "a@b.example\r\nBcc: x@y.example"}, "sender"),
        ({"sender": SENDER, "reason": "x" * 501}, "reason"), ({"sender": SENDER, "why": "x"}, "why"),
    ],
)  # fmt: skip
def test_what_is_no_sender_is_refused_by_its_field(admin: Caller, db: Db, body: dict[str, Any], field: str) -> None:
    refused = admin.post("/api/senders/pause", body)
    assert (refused.status_code, error_of(refused)["field"]) == (400, field)
    assert db.rows("SELECT * FROM paused_senders") == []


def test_a_rule_is_set_replaced_and_removed(
    admin: Caller, db: Db, home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = {"per_second": None, "per_minute": None, "per_hour": None, "per_day": None}
    made = admin.ask("PUT", "/api/domains/Gmail.com", json={"per_minute": 600, "per_day": 20000})
    assert made.get_json() == {"domain": "gmail.com", "limits": {**nothing, "per_minute": 600, "per_day": 20000}}
    admin.ask("PUT", "/api/domains/*.example.com", json={"per_second": 2})
    replaced = admin.ask("PUT", "/api/domains/gmail.com", json={"per_hour": 9, "per_day": None}).get_json()
    assert replaced["limits"] == {**nothing, "per_hour": 9}
    assert admin.get("/api/domains").get_json() == of_command(capsys, "domains", "list")
    gone = admin.ask("DELETE", "/api/domains/*.EXAMPLE.com")
    assert gone.get_json() == {"domain": "*.example.com", "removed": True}
    assert admin.ask("DELETE", "/api/domains/*.example.com").status_code == 404
    assert ("domains.put", "Gmail.com", "200: per_minute 600, per_day 20000") in [
        (entry.action, entry.subject, entry.detail) for entry in entries(db, 9)
    ]


def test_the_shipped_rules_are_shown_and_added_where_there_is_none(admin: Caller, db: Db) -> None:
    shipped = admin.get("/api/domains/defaults").get_json()
    assert [one["domain"] for one in shipped] == sorted(DEFAULTS)
    admin.ask("PUT", "/api/domains/gmail.com", json={"per_minute": 1})
    added = admin.post("/api/domains/use-defaults", {}).get_json()
    assert len(added) == len(DEFAULTS) - 1
    rules = {one["domain"]: one["limits"] for one in admin.get("/api/domains").get_json()}
    assert rules["gmail.com"]["per_minute"] == 1
    assert {**rules, "gmail.com": 0} == {**{one["domain"]: one["limits"] for one in shipped}, "gmail.com": 0}


@pytest.mark.parametrize(
    ("domain", "body", "field"),
    [
        ("gmail.com", {}, "per_second"),
        ("gmail.com", {"per_day": 0}, "per_day"),
        ("gmail.com", {"per_day": "5"}, "per_day"),
        ("gmail.com", {"per_day": 10**10}, "per_day"),
        ("gmail.com", {"weight": 5}, "weight"),
        ("a b", {"per_day": 5}, "domain"),
        ("x", {"per_day": 5}, "domain"),
        ("x" * 300 + ".com", {"per_day": 5}, "domain"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_its_field(
    admin: Caller, domain: str, body: dict[str, Any], field: str
) -> None:
    refused = admin.ask("PUT", f"/api/domains/{domain}", json=body)
    assert (refused.status_code, error_of(refused)["field"]) == (400, field)
    assert "--" not in error_of(refused)["message"]
    assert admin.get("/api/domains").get_json() == []


def test_who_may_only_look_changes_nothing(app: Flask, db: Db) -> None:
    reader, sender = caller(app, "read"), caller(app, "send")
    for one in (reader, sender):
        for method, path in (("PUT", "/gmail.com"), ("DELETE", "/gmail.com"), ("POST", "/use-defaults")):
            assert one.ask(method, f"/api/domains{path}", json={"per_day": 5}).status_code == 403
    for path in ("pause", "resume"):
        assert reader.post(f"/api/senders/{path}", {"sender": SENDER}).status_code == 403
