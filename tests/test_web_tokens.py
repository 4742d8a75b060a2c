"""/api/tokens and their page: a token is told once, in no log, cookie or address."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator

import pytest
from flask import Flask

from app import config
from app.cli.main import main
from app.config import Settings
from app.db import Db
from app.models.tables import Token
from app.models.tokens import PREFIX
from app.web.application import create_app
from app.web.audit import entries
from tests.console import Visitor, logged_in
from tests.web import Caller, caller, error_of


@pytest.fixture
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
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


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return logged_in(app)


def test_a_token_is_made_used_and_ended(
    admin: Caller, app: Flask, db: Db, home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    made = admin.post("/api/tokens", {"name": "grafana"})
    assert made.status_code == 201
    document = made.get_json()
    assert (document["name"], document["scope"], document["token"][: len(PREFIX)]) == ("grafana", "read", PREFIX)
    grafana = Caller(app, document["token"])
    assert grafana.get("/api/queues").status_code == 200
    assert grafana.get("/api/tokens").status_code == 403
    found = admin.get("/api/tokens").get_json()
    assert main(["tokens", "list", "--json"]) == 0
    assert found == json.loads(capsys.readouterr().out)
    one = next(token for token in found if token["name"] == "grafana")
    assert one["last_used_at"] is not None
    assert document["token"] not in json.dumps(found)
    assert admin.ask("DELETE", f"/api/tokens/{one['id']}").get_json() == {"id": one["id"], "revoked": True}
    assert grafana.get("/api/queues").status_code == 401
    assert admin.ask("DELETE", f"/api/tokens/{one['id']}").status_code == 409
    assert admin.ask("DELETE", "/api/tokens/99").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "name"), ({"name": "a b"}, 400, "name"), ({"name": ""}, 400, "name"), ({"name": 5}, 400, "name"),
        ({"name": "x" * 101}, 400, "name"), ({"name": "x", "scope": "root"}, 400, "scope"),
        ({"name": "admin-tester"}, 409, "name"), ({"name": "x", "token": "mine"}, 400, "token"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_token_is_refused_by_its_field(
    admin: Caller, body: dict[str, object], status: int, field: str
) -> None:
    refused = admin.post("/api/tokens", body)
    assert (refused.status_code, error_of(refused)["field"]) == (status, field)
    assert Token.select().count() == 1


def test_who_may_not_do_everything_makes_no_token(app: Flask) -> None:
    for scope in ("read", "send"):
        one = caller(app, scope)
        assert one.post("/api/tokens", {"name": "mine", "scope": "admin"}).status_code == 403
        for path in ("/api/tokens", "/tokens"):
            assert one.get(path).status_code == 403


def test_the_page_shows_a_new_token_once_and_nothing_else_keeps_it(
    visitor: Visitor, app: Flask, db: Db, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert "There is no token yet" in visitor.get("/tokens").text
    shown = visitor.post("/tokens/new", name="grafana", scope="read")
    assert (shown.status_code, shown.headers["Cache-Control"]) == (201, "no-store")
    token = re.search(rf'value="({PREFIX}[\w-]+)"', shown.text)
    assert token is not None
    assert Caller(app, token[1]).get("/api/queues").status_code == 200
    assert token[1] not in visitor.get("/tokens").text
    assert token[1] not in f"{shown.headers}{visitor.client.get_cookie('mailcrew_said')}"
    assert token[1] not in str([record.__dict__ for record in caplog.records])
    trail = [(entry.action, entry.detail) for entry in entries(db, 9)]
    assert ("tokens.new", "201: token grafana, scope read") in trail
    assert token[1] not in str(trail)


def test_the_page_ends_a_token_and_says_what_is_wrong(visitor: Visitor, db: Db) -> None:
    visitor.get("/tokens")
    visitor.post("/tokens/new", name="grafana", scope="send")
    again = visitor.post("/tokens/new", name="grafana", scope="send")
    assert again.status_code == 409
    assert 'id="wrong-name" role="alert"' in again.text
    assert visitor.post("/tokens/new", name="other", scope="root").status_code == 400
    assert visitor.post("/tokens/1/revoke", csrf="x").status_code == 403
    assert visitor.post("/tokens/1/revoke").headers["Location"] == "/tokens"
    page = visitor.get("/tokens").text
    assert "The token grafana is ended" in page
    assert 'action="/tokens/1/revoke"' not in page
    assert visitor.post("/tokens/1/revoke").status_code == 409
