"""Who may ask, and how every refusal looks."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from flask import Flask

from app.config import Settings
from app.db import Db
from app.models.tables import Token
from app.models.tokens import create_token, revoke_token
from app.web.application import LONGEST_BODY, create_app
from tests.web import NOW, Caller, caller, error_of

OPEN = {
    *((method, path) for method in ("GET", "HEAD") for path in ("/api/health", "/login", "/static/1", "/favicon.ico")),
    ("POST", "/login"), ("POST", "/preferences"),
    # These have a secret of their own.
    *((method, f"/api/cron/{path}") for method in ("GET", "HEAD", "POST") for path in ("dispatch", "one-click-start")),
}  # fmt: skip
#: What names people, and where passwords are.
HIDDEN = (
    "/audit", "/api/audit", "/api/servers/1/settings", "/servers/1/edit", "/servers/new", "/logs", "/logs/live",
    "/api/logs", "/tokens", "/api/tokens", "/settings", "/api/settings",
)  # fmt: skip
FOR_ADMINS = {(method, path) for method in ("GET", "HEAD") for path in HIDDEN}
#: What a token of scope send may change; everything else wants an administrator.
FOR_SENDERS = {
    ("POST", "/api/campaigns"), ("PUT", "/api/campaigns/1"), ("DELETE", "/api/campaigns/1"),
    ("POST", "/campaigns/new"), ("POST", "/campaigns/1/edit"), ("POST", "/campaigns/1/delete"),
    ("POST", "/campaigns/preview/about"), ("POST", "/campaigns/preview/mail"),
    *(("POST", f"{base}/senders/{verb}") for base in ("/api", "") for verb in ("pause", "resume")),
    *(
        ("POST", f"{base}/campaigns/1/{verb}")
        for base in ("/api", "")
        for verb in ("schedule", "unschedule", "pause", "resume", "cancel", "boost", "unknown", "copy", "test")
    ),
}  # fmt: skip
#: What everybody may do who has come in.
HARMLESS = {*OPEN, ("POST", "/logout"), ("POST", "/api/campaigns/preview")}
UNKNOWN = [("GET", "/"), ("GET", "/api/nope"), ("POST", "/nope"), ("OPTIONS", "/api/workers"), ("GET", "//api/health")]


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    return create_app(settings, db=db)


def every_route(app: Flask) -> Iterator[tuple[str, str]]:
    """Every method and path that the application knows, with values for its parameters."""
    for rule in app.url_map.iter_rules():
        for method in sorted(rule.methods or ()):
            _, path = rule.build(dict.fromkeys(rule.arguments, 1)) or ("", "")
            yield method, path


def test_every_route_wants_a_token_except_health(app: Flask) -> None:
    revoked = create_token("revoked", "admin", NOW)
    revoke_token("revoked", NOW)
    routes = [route for route in [*every_route(app), *UNKNOWN] if route not in OPEN]
    assert ("POST", "/api/workers/stop") in routes
    for method, path in routes:
        for token in (None, "wrong", revoked):
            response = Caller(app, token).ask(method, path)
            assert response.status_code == 401, (method, path, token)
            assert response.headers["WWW-Authenticate"].startswith("Bearer ")


def test_a_read_token_may_look_at_everything_and_change_nothing(app: Flask) -> None:
    reader = caller(app, "read")
    for method, path in every_route(app):
        status = reader.ask(method, path).status_code
        if (method, path) in OPEN:
            continue
        if method in ("GET", "HEAD") and (method, path) not in FOR_ADMINS:
            assert status not in (401, 403), (method, path)
            assert status < 500, (method, path)
        elif (method, path) not in HARMLESS:
            assert status == 403, (method, path)


def test_a_send_token_has_campaigns_sent_and_changes_nothing_else(app: Flask) -> None:
    sender = caller(app, "send")
    for method, path in every_route(app):
        status = sender.ask(method, path).status_code
        if (method, path) in OPEN:
            continue
        if method in ("GET", "HEAD") or (method, path) in {*HARMLESS, *FOR_SENDERS}:
            assert (status == 403) == ((method, path) in FOR_ADMINS), (method, path)
        else:
            assert status == 403, (method, path)


def test_stopping_workers_needs_the_scope_admin(app: Flask) -> None:
    sender = caller(app, "send").post("/api/workers/stop", {})
    assert sender.status_code == 403
    assert error_of(sender)["code"] == "forbidden"
    assert caller(app, "admin").post("/api/workers/stop", {}).status_code == 404


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic {token}", "{token}", "Bearer {token} x", "Bearer {token}=", "Bearer a=b"]
)
def test_a_token_counts_only_as_a_bearer(app: Flask, header: str) -> None:
    token = create_token("me", "admin", NOW)
    response = Caller(app).ask("GET", "/api/queues", headers={"Authorization": header.format(token=token)})
    assert response.status_code == 401
    assert error_of(response)["code"] == "unauthorized"


def test_a_token_in_the_address_does_not_count(app: Flask) -> None:
    token = create_token("me", "admin", NOW)
    assert Caller(app).get(f"/api/queues?token={token}&access_token={token}").status_code == 401


def test_the_use_of_a_token_is_written_down(app: Flask) -> None:
    caller(app, "read").get("/api/campaigns")
    assert (Token.get().last_used_at or 0) > NOW


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "code"),
    [
        ("GET", "/api/nope", {}, 404, "not_found"),
        ("GET", "/api/workers/", {}, 404, "not_found"),
        ("GET", "/api/workers/x/status", {}, 404, "not_found"),
        ("GET", f"/api/workers/{'9' * 6000}/status", {}, 404, "not_found"),
        ("GET", f"/api/campaigns/{2**63}", {}, 404, "not_found"),
        ("GET", "/api/campaigns/1", {}, 404, "not_found"),
        ("GET", "/%ff/%00", {}, 404, "not_found"),
        ("DELETE", "/api/campaigns", {}, 405, "method_not_allowed"),
        ("GET", "/api/workers/stop", {}, 405, "method_not_allowed"),
        ("POST", "/api/workers/stop", {}, 415, "unsupported_media_type"),
        ("POST", "/api/workers/stop", {"data": {"pid": 1}}, 415, "unsupported_media_type"),
        ("POST", "/api/workers/stop", {"data": "{", "content_type": "application/json"}, 400, "bad_request"),
        ("POST", "/api/workers/stop", {"data": b"\xff", "content_type": "application/json"}, 400, "bad_request"),
        ("POST", "/api/workers/stop", {"data": "[" * 60_000, "content_type": "application/json"}, 400, "bad_request"),
        ("POST", "/api/workers/stop", {"json": []}, 400, "bad_request"),
        ("POST", "/api/workers/stop", {"json": {"queue": "x" * LONGEST_BODY}}, 413, "too_large"),
    ],
)
def test_every_refusal_has_the_one_shape(
    app: Flask, method: str, path: str, more: dict[str, object], status: int, code: str
) -> None:
    response = caller(app, "admin").ask(method, path, **more)
    assert response.status_code == status
    assert error_of(response)["code"] == code
    if status == 405:
        assert response.headers["Allow"]


def test_what_nobody_foresaw_is_logged_under_an_id_and_not_shown(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> str:
        raise ZeroDivisionError("internal detail")

    app.add_url_rule("/api/broken", view_func=broken)
    caplog.set_level(logging.INFO, "mailcrew")
    response = caller(app, "read").get("/api/broken")
    assert response.status_code == 500
    message = error_of(response)["message"]
    assert "internal detail" not in response.text
    assert "Traceback" not in response.text
    (failed,) = [r.__dict__["fields"] for r in caplog.records if r.getMessage() == "request failed"]
    assert failed["id"] in message
    assert "ZeroDivisionError: internal detail" in failed["traceback"]


def test_every_request_is_logged_with_the_name_of_its_token_and_never_the_token(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mailcrew")
    token = create_token("grafana", "read", NOW)
    Caller(app, token).get(f"/api/campaigns?limit=5&secret={token}")
    Caller(app, token + "x").get("/api/queues")
    logged = [record.__dict__["fields"] for record in caplog.records if record.getMessage() == "request"]
    assert [(one["method"], one["path"], one["status"], one["token"]) for one in logged] == [
        ("GET", "/api/campaigns", 200, "grafana"),
        ("GET", "/api/queues", 401, None),
    ]
    assert all(one["ms"] >= 0 for one in logged)
    assert token not in str([record.__dict__ for record in caplog.records])


def test_answers_are_neither_cached_nor_guessed_at(app: Flask) -> None:
    response = Caller(app).get("/api/health")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
