"""A crontab over HTTP, for the tests of dispatches and schedules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.config import Settings
from app.db import Db
from app.secrets import secret
from app.web.application import create_app
from tests.schedules.people import Checks, Said
from tests.web import Caller

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
