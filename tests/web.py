"""What the web tests share: an application on this test's database, callers with tokens."""

from __future__ import annotations

import json
from typing import Any

import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.models.tokens import create_token
from app.queues.workers import KEY

NOW = 1_790_000_000_000
ERROR_KEYS = {"code", "message", "field"}


class Caller:
    """A client of the application that presents a token, or none."""

    def __init__(self, app: Flask, token: str | None = None) -> None:
        self._client: FlaskClient = app.test_client()
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str) -> TestResponse:
        return self.ask("GET", path)

    def post(self, path: str, document: object) -> TestResponse:
        return self.ask("POST", path, json=document)

    def ask(self, method: str, path: str, **more: Any) -> TestResponse:
        return self._client.open(path, method=method, headers={**self.headers, **more.pop("headers", {})}, **more)


def caller(app: Flask, scope: str = "admin") -> Caller:
    """Somebody with a new token of this scope."""
    return Caller(app, create_token(f"{scope}-tester", scope, NOW))


def error_of(response: TestResponse) -> dict[str, Any]:
    """The error in the one shape; fails when the answer has any other."""
    assert response.mimetype == "application/json", response.text
    document = json.loads(response.text)
    assert set(document) == {"error"}
    error: dict[str, Any] = document["error"]
    assert set(error) == ERROR_KEYS
    assert error["code"]
    assert error["message"]
    return error


def plant(client: redis.Redis, pid: int, host: str = "h", **changes: object) -> None:
    """A heartbeat of a worker that is somewhere else, which stays fresh."""
    seconds, micros = client.time()
    status = {
        "pid": pid, "host": host, "program": f"send_{pid}", "queues": ["send"], "threads": 2, "is_processing": False,
        "processed_count": 7, "rate_per_second": 1.5, "rss_mb": 40.0, "uptime": 3.0, "campaign_id": None,
        "beat_at": seconds + micros / 1e6 + 3600,
    }  # fmt: skip
    client.hset(KEY, f"{host}:{pid}", json.dumps({**status, **changes}))
