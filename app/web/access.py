"""Who may do what: the one place where callers are recognized and refused.

Every route wants a token, unknown ones too, unless it says `@open_to_all`. Looking wants the scope
`read`, everything else `admin`, unless the route says `@needs("send")`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, current_app, g, request

from app.db.connection import DatabaseTrouble
from app.models.tables import Token
from app.models.tokens import allows, find_token, note_use
from app.web.errors import Problem
from app.web.resources import resources

View = TypeVar("View", bound=Callable[..., Any])

_OPEN: set[object] = set()
_NEEDED: dict[object, str] = {}


def open_to_all(view: View) -> View:
    """A route that answers without a token."""
    _OPEN.add(view)
    return view


def needs(scope: str) -> Callable[[View], View]:
    """A route that wants another scope than its method suggests."""

    def mark(view: View) -> View:
        _NEEDED[view] = scope
        return view

    return mark


def install(app: Flask) -> None:
    """Check every request of the application, and let go of its database connection at the end."""
    app.before_request(check)
    app.teardown_request(_release)


def check() -> None:
    """Raises Problem unless the present request may go on."""
    view = current_app.view_functions.get(request.endpoint or "")
    if view in _OPEN:
        return
    token = _presented()
    g.token_name = token.name
    scope = _NEEDED.get(view, "read" if request.method in ("GET", "HEAD") else "admin")
    # A path that does not exist is told to anybody with a token; its method says nothing then.
    if view is not None and not allows(token.scope, scope):
        raise Problem(403, "forbidden", f"this needs a token of scope {scope}; yours has {token.scope}")


def _presented() -> Token:
    given = request.authorization
    if given is None or given.type != "bearer" or not given.token:
        raise _unauthorized("send a token: Authorization: Bearer TOKEN (bin/mailcrew tokens create)", "")
    token = find_token(given.token)
    if token is None:
        raise _unauthorized("this token is not valid here, or it has been revoked", ', error="invalid_token"')
    try:
        note_use(token, resources().db.now_ms())
    except DatabaseTrouble:
        pass  # a full disk or a busy database must not keep anybody from looking
    return token


def _unauthorized(message: str, more: str) -> Problem:
    return Problem(401, "unauthorized", message, headers={"WWW-Authenticate": f'Bearer realm="mailcrew"{more}'})


def _release(_error: BaseException | None) -> None:
    """A new connection for each request costs little, and a MySQL that restarted costs no request."""
    db = resources().db
    if not db.peewee.is_closed():
        db.close()
