"""The access log: one event a request, with the name of the token and never the token."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request

from app.events import emit

LONGEST_PATH = 200


def install(app: Flask) -> None:
    """Log every request of the application, and forbid caches and guesses about what was answered."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.began = time.monotonic()


def _end(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    emit(
        "request", method=request.method, path=request.path[:LONGEST_PATH], status=response.status_code,
        ms=round((time.monotonic() - g.began) * 1000, 1), token=g.get("token_name"), remote=request.remote_addr,
    )  # fmt: skip
    return response
