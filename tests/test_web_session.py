"""Sessions and the JSON API, the audit trail, and what every answer forbids the browser."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.config import Settings
from app.db import Db
from app.events import emit
from app.web import audit
from app.web.access import FORM_HEADER
from app.web.application import create_app
from app.web.audit import entries
from app.web.headers import HEADERS
from tests.console import BROWSER, logged_in
from tests.test_web_access import HARMLESS, every_route
from tests.web import Caller, caller, error_of


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    return create_app(settings, db=db)


@pytest.fixture
def session(app: Flask) -> FlaskClient:
    """The administrator's cookies, without any form token."""
    return logged_in(app).client


def test_with_a_session_one_may_look_at_everything(app: Flask, session: FlaskClient) -> None:
    for method, path in every_route(app):
        if method in ("GET", "HEAD"):
            status = session.open(path, method=method).status_code
            assert status not in (401, 403), (method, path)
            assert status < 500, (method, path)


def test_with_a_session_nothing_changes_without_its_form_token(app: Flask, session: FlaskClient) -> None:
    changing = [(m, p) for m, p in every_route(app) if m not in ("GET", "HEAD") and (m, p) not in HARMLESS]
    assert ("POST", "/api/campaigns/1/pause") in changing
    other = logged_in(app)
    other.get("/queues")
    for method, path in [*changing, ("POST", "/logout")]:
        for headers, form in (({}, {}), ({FORM_HEADER: "x"}, {}), ({}, {"csrf": "x"}), ({}, {"csrf": other.token})):
            refused = session.open(path, method=method, headers=headers, data=form)
            assert refused.status_code == 403, (method, path, headers, form)
            assert error_of(refused)["code"] == "csrf"


def test_a_script_of_ours_may_use_the_api_with_the_form_token(app: Flask) -> None:
    visitor = logged_in(app)
    visitor.get("/queues")
    answer = visitor.client.post("/api/workers/stop", json={"queue": "send"}, headers={FORM_HEADER: visitor.token})
    assert error_of(answer)["code"] == "not_found", "it was let through: there is no such worker"


def test_a_token_needs_no_form_token_and_wins_over_a_session(app: Flask, session: FlaskClient) -> None:
    assert caller(app, "admin").post("/api/workers/stop", {}).status_code == 404
    reader = caller(app, "read").headers
    assert session.post("/api/workers/stop", json={}, headers=reader).status_code == 403
    assert session.get("/api/queues", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_what_a_token_did_or_was_refused_stands_in_the_trail(app: Flask, db: Db) -> None:
    caller(app, "send").post("/api/workers/stop", {"queue": "send"})
    caller(app, "admin").post("/api/campaigns/7/pause", {})
    caller(app, "read").get("/api/campaigns")
    trail = [(one.who, one.action, one.subject, one.detail) for one in entries(db, 10)]
    assert trail == [
        ("token admin-tester", "halting.pause", "7", "404"),
        ("token send-tester", "workers.stop", "", "403"),
    ]


def test_the_trail_is_searched_page_by_page(app: Flask, db: Db) -> None:
    with app.test_request_context():
        for number in range(7):
            audit.write(db, "token ci" if number % 2 else "administrator", "campaign.pause", str(number))
        audit.write(db, "administrator", "login")
    admin = caller(app, "admin")
    first = admin.get("/api/audit?limit=3&action=campaign")
    assert [one["subject"] for one in first.get_json()] == ["6", "5", "4"]
    path = first.headers["Link"].partition("<")[2].partition(">")[0]
    assert [one["subject"] for one in admin.get(path).get_json()] == ["3", "2", "1"]
    assert {one["who"] for one in admin.get("/api/audit?who=token%20ci").get_json()} == {"token ci"}
    assert caller(app, "send").get("/api/audit").status_code == 403, "a trail names people"


def test_what_is_old_leaves_the_trail(app: Flask, db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    with app.test_request_context():
        for age in (audit.KEEP_MS + 1000, 1000):
            row = (db.now_ms() - age, "a", "b", "", "", "")
            db.run("INSERT INTO audit (at, who, action, subject, detail, address) VALUES (?, ?, ?, ?, ?, ?)", *row)
        monkeypatch.setattr(audit, "_pruned", 0.0)
        audit.write(db, "now", "c")
    assert [one.who for one in entries(db, 10)] == ["now", "a"]


@pytest.mark.parametrize("path", ["/login", "/queues", "/api/queues", "/nothing", "/static/console.css", "/api/health"])
def test_every_answer_forbids_foreign_code_frames_and_guesses(session: FlaskClient, path: str) -> None:
    headers = session.get(path, headers=BROWSER).headers
    policy = headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert {name: headers[name] for name in HEADERS if name != "Cache-Control"} == {
        name: value for name, value in HEADERS.items() if name != "Cache-Control"
    }


def test_files_are_kept_by_browsers_and_pages_are_not(app: Flask, session: FlaskClient) -> None:
    page = session.get("/queues")
    assert page.headers["Cache-Control"] == "no-store"
    path = page.text.partition('rel="stylesheet" href="')[2].partition('"')[0]
    assert "immutable" in Caller(app).get(path).headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/static/../access.py", "/static/%2e%2e/access.py", "/static/vendor/", "/static//x"])
def test_no_other_file_is_given_away(app: Flask, path: str) -> None:
    assert caller(app, "read").get(path).status_code == 404


def test_pages_that_only_look_do_not_fill_the_log(
    app: Flask, session: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mailcrew")
    emit("before")
    session.get("/queues/live")
    session.get("/static/console.css")
    session.get("/queues")
    paths = [record.__dict__["fields"]["path"] for record in caplog.records if record.getMessage() == "request"]
    assert paths == ["/queues"]
