"""Dramatiq's own dashboard behind our login, where its package is installed.

Its packaging forbids the Dramatiq and Redis client that we use, so `bin/setup` installs it in a step of its own
and everything else works without it. Its pages are its own; who may see them, and what they may load, is ours.
"""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

from dramatiq.brokers.redis import RedisBroker
from flask import Response, current_app, redirect, request

from app.queues.broker import NAMESPACE
from app.queues.dead_letters import find_dead_letter, replay
from app.web.access import needs, same_origin_suffices
from app.web.audit import tell
from app.web.console.page import Page, render
from app.web.dead import names
from app.web.errors import Problem
from app.web.resources import resources

page = Page("dramatiq", nav=("machine", 90))

PREFIX = "/dramatiq"
#: Its styles stand in its pages; it has no scripts.
CONTENT = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
EXTENSION = "mailcrew_dramatiq"
#: What it asks for in forms that change something.
FIELDS = ("queue", "id")


@needs("read")
def show(path: str = "") -> Response | str:
    dashboard = _dashboard()
    if dashboard is None:
        return render("dramatiq.html", page_name=page.name)
    cursor = request.args.get("cursor", "0")
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 20):
        raise Problem(400, "invalid", "cursor must be a whole number", "cursor")
    return _answer(dashboard, path, b"")


@same_origin_suffices
def change(path: str) -> Response:
    dashboard = _dashboard()
    if dashboard is None:
        raise Problem(404, "not_found", "the Dramatiq dashboard is not installed: bin/setup")
    body = request.get_data(cache=True)
    for field in FIELDS:
        if not request.form.get(field):
            raise Problem(400, "invalid", f"{field} is missing", field)
    tell(f"{request.form['queue']} {request.form['id']}")
    if path == "requeue-message":
        return _requeue(request.form["queue"], request.form["id"])
    return _answer(dashboard, path, body)


page.path = PREFIX
for where in ("", "/", "/<path:path>"):
    page.routes.add_url_rule(f"{PREFIX}{where}", f"show{len(where)}", show)
page.routes.add_url_rule(f"{PREFIX}/<path:path>", "change", change, methods=["POST"])


def _requeue(dead_queue: str, id_: str) -> Response:
    """In one step of ours: it deletes first and enqueues then, so a crash in between would lose the task."""
    queue = dead_queue.removesuffix(".XQ")
    letter = find_dead_letter(resources().redis, [queue], id_)
    if letter is None or not replay(resources().redis, letter):
        raise Problem(409, "refused", f"{id_} is no dead letter of {queue}, or cannot be read")
    found = redirect(f"{PREFIX}/queues/{queue}/failed", 303)
    assert isinstance(found, Response)
    return found


def _answer(dashboard: Any, path: str, body: bytes) -> Response:
    environ = {**request.environ, "PATH_INFO": f"/{path}", "wsgi.input": io.BytesIO(body)}
    # A queue may have been added to the table since the last request.
    dashboard.broker.queues = dict.fromkeys(names())
    response = Response.from_app(dashboard, environ, buffered=True)
    response.headers["Content-Security-Policy"] = CONTENT
    assert isinstance(response, Response)
    return response


def _dashboard() -> Any:
    """The WSGI application; None when the package is not there."""
    kept = current_app.extensions
    if EXTENSION not in kept:
        try:
            made = import_module("dramatiq_dashboard").DashboardApp
        except ImportError:
            return None
        broker = RedisBroker(client=resources().redis, namespace=NAMESPACE, middleware=[])  # type: ignore[no-untyped-call]
        kept[EXTENSION] = made(broker, PREFIX)
    return kept[EXTENSION]
