"""What a home is set to is shown with where that is said, and without a secret."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from app.config import TABLE, Settings
from app.db import Db, migration_status
from app.secrets import MAY_BE_EMPTY, secret
from app.web.application import create_app
from app.web.settings import without_secrets
from tests.console import logged_in
from tests.web import Caller, caller

HOOK = "https://hooks.example.com/services/T0/B1/s3cr3tpath?token=s3cr3tquery"


@pytest.fixture
def app(db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Flask:
    for setting in TABLE:
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv("MAILCREW_HOME", str(settings.home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    return create_app(settings, db=db)


@pytest.fixture
def admin(app: Flask) -> Caller:
    return caller(app)


def by_name(admin: Caller) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in admin.get("/api/settings").get_json()}


def test_every_setting_is_shown_with_where_it_is_said(
    admin: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.home / ".env").write_text(f"SEND_BATCH_SIZE=7\nLEASE_SECONDS=60\nALERT_WEBHOOK={HOOK}\nCRON_SECRET=\n")
    monkeypatch.setenv("LEASE_SECONDS", "50")
    found = by_name(admin)
    assert list(found) == [setting.name for setting in TABLE]
    assert {name: (found[name]["value"], found[name]["source"]) for name in (
        "SEND_BATCH_SIZE", "LEASE_SECONDS", "BOUNCE_LIMIT", "MAILCREW_HOME", "ALERT_WEBHOOK",
    )} == {
        "SEND_BATCH_SIZE": ("7", "home"), "LEASE_SECONDS": ("50", "environment"), "BOUNCE_LIMIT": ("3", "default"),
        "MAILCREW_HOME": (str(settings.home), "environment"),
        "ALERT_WEBHOOK": ("https://hooks.example.com/•••", "home"),
    }  # fmt: skip
    # The console began with others.
    assert {name for name, one in found.items() if one["restart"]} >= {"SEND_BATCH_SIZE", "LEASE_SECONDS"}
    assert not found["BOUNCE_LIMIT"]["restart"]
    assert {name: found[name]["source"] for name in MAY_BE_EMPTY} == {
        "SECRET_KEY": "made", "ADMIN_PASSWORD": "made", "CRON_SECRET": "closed",
    }  # fmt: skip


def test_no_secret_is_among_it(db: Db, settings: Settings, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"ADMIN_PASSWORD": "tr0ub4dor", "SECRET_KEY": "k3yk3yk3y", "CRON_SECRET": "cr0ncr0n"}
    for name, value in {
        **secrets, "ALERT_WEBHOOK": HOOK, "ALERT_SMTP": "smtps://me:p%40ssw0rd@smtp.example.com:465",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    used = replace(settings, redis_url="redis://:r3disr3dis@127.0.0.1:1/3?password=0therpass", alert_webhook=HOOK)
    served = create_app(used, db=db)
    admin, visitor = caller(served), logged_in(served)
    shown = admin.get("/api/settings").text + visitor.get("/settings").text
    for hidden in (*secrets.values(), "p%40ssw0rd", "p@ssw0rd", "s3cr3t", "r3disr3dis", "0therpass"):
        assert hidden not in shown
    assert "redis://:•••@127.0.0.1:1/3?password=•••" in visitor.get("/settings").text
    assert secret(used, "ADMIN_PASSWORD") == "tr0ub4dor"
    for scope in ("read", "send"):
        one = caller(served, scope)
        for path in ("/settings", "/api/settings"):
            assert one.get(path).status_code == 403


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("DATABASE_URL", "mysql://u:p%2Fw@h:3306/n?unix_socket=/run/s", "mysql://u:•••@h:3306/n?unix_socket=/run/s"),
        ("DATABASE_URL", "sqlite:////srv/a b.db", "sqlite:////srv/a b.db"),
        ("REDIS_URL", "unix:///run/r.sock?db=3", "unix:///run/r.sock?db=3"),
        ("REDIS_URL", "redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("ALERT_SMTP", "smtp://h:bad", "•••"),
        ("ALERT_WEBHOOK", "http://h:8080/x", "http://h:8080/•••"),
        ("ALERT_WEBHOOK", "", ""),
        ("HTTP_BIND", "127.0.0.1:1", "127.0.0.1:1"),
    ],
)
def test_a_url_is_shown_without_what_opens_it(name: str, value: str, shown: str) -> None:
    assert without_secrets(name, value) == shown


def test_migrations_are_told_as_the_command_tells_them(app: Flask, db: Db) -> None:
    found = caller(app, "read").get("/api/migrations").get_json()
    assert [(one["name"], one["applied"]) for one in found] == migration_status(db)
    visitor = logged_in(app)
    assert "The database is up to date" in visitor.get("/settings").text
    db.run("DELETE FROM schema_migration WHERE name = ?", found[-1]["name"])
    assert "bin/mailcrew db migrate" in visitor.get("/settings").text
