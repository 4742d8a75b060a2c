"""The access log: one event a request, with the name of the token and never the token."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request

from app.events import emit
from app.web.access import Caller

LONGEST_PATH = 200


def install(app: Flask) -> None:
    """Log every request of the application, except what open pages ask for by themselves all the time."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.began = time.monotonic()


def _end(response: Response) -> Response:
    if g.get("quiet") and response.status_code < 400:
        return response
    known = g.get("caller")
    caller = known if isinstance(known, Caller) else None
    emit(
        "request", method=request.method, path=request.path[:LONGEST_PATH], status=response.status_code,
        ms=round((time.monotonic() - g.began) * 1000, 1),
        token=caller.name if caller and not caller.session else None,
        session=caller.session.id[:8] if caller and caller.session else None, remote=request.remote_addr,
    )  # fmt: skip
    return response
