"""Who may do what: the one place where callers are recognized and refused.

Every route wants a token or a session, unknown ones too, unless it says `@open_to_all`. Looking wants the
scope `read`, everything else `admin`, unless the route says `@needs("send")`. A browser sends its cookie
whoever made it ask, so with a session everything but looking also wants the form token of that session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Flask, Response, current_app, g, request

from app.db.connection import DatabaseTrouble
from app.models.tables import Token
from app.models.tokens import allows, find_token, note_use
from app.web.errors import Problem
from app.web.resources import resources
from app.web.sessions import Session

View = TypeVar("View", bound=Callable[..., Any])

#: Who a session belongs to, in the audit trail.
ADMINISTRATOR = "administrator"
LOOKING = ("GET", "HEAD")
#: Where a form says its token: a field, or a header for scripts.
FORM_FIELD = "csrf"
FORM_HEADER = "X-CSRF-Token"

_OPEN: set[object] = set()
_NEEDED: dict[object, str] = {}
_LONGEST: dict[object, int | Callable[[], int]] = {}
_SAME_ORIGIN: set[object] = set()


@dataclass(frozen=True)
class Caller:
    """Who asks. `session` is None for a token."""

    name: str
    scope: str
    session: Session | None = None


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


def takes_up_to(size: int | Callable[[], int]) -> Callable[[View], View]:
    """A route whose requests may have so many bytes: an upload. Others are small. A function is asked each time."""

    def mark(view: View) -> View:
        _LONGEST[view] = size
        return view

    return mark


def same_origin_suffices(view: View) -> View:
    """A route of somebody else's forms, which have no token of ours: the browser's word must do."""
    _SAME_ORIGIN.add(view)
    return view


def is_open(view: object) -> bool:
    """Whether a route answers without anybody being recognized."""
    return view in _OPEN


def scope_of(view: object, method: str) -> str:
    """The scope that a route wants of who asks it by this method."""
    return _NEEDED.get(view, "read" if method in LOOKING else "admin")


def install(app: Flask) -> None:
    """Check every request of the application, and let go of its database connection at the end."""
    app.before_request(check)
    app.after_request(_renew)
    app.teardown_request(_release)


def check() -> None:
    """Raises Problem unless the present request may go on."""
    view = current_app.view_functions.get(request.endpoint or "")
    if view in _OPEN:
        return
    caller = g.caller = _caller()
    scope = scope_of(view, request.method)
    # A path that does not exist is told to anybody who may come in; its method says nothing then.
    if view is not None and not allows(caller.scope, scope):
        raise Problem(403, "forbidden", f"this needs a token of scope {scope}; yours has {caller.scope}")
    if view in _LONGEST:
        most = _LONGEST[view]
        request.max_content_length = most() if callable(most) else most
    if caller.session and request.method not in LOOKING:
        if view in _SAME_ORIGIN:
            _check_origin()
        else:
            check_form_token(caller.session.id)


def check_form_token(identity: str) -> None:
    """Raises Problem unless the request brings the form token that was made for this session or visitor."""
    given = request.headers.get(FORM_HEADER) or (request.form.get(FORM_FIELD) if _is_form() else None)
    if not given or not resources().sessions.right_form_token(identity, given):
        raise Problem(
            403, "csrf", "this did not come from one of our pages, or the page is too old: load it again "
            f"(scripts with a session send the header {FORM_HEADER}, others a token)", FORM_FIELD,
        )  # fmt: skip


def caller() -> Caller:
    """Who asks; only where somebody had to be recognized."""
    found = g.caller
    assert isinstance(found, Caller)
    return found


def _caller() -> Caller:
    if "Authorization" in request.headers:
        token = _presented()
        return Caller(str(token.name), str(token.scope))
    sessions = resources().sessions
    session = sessions.read(request.cookies.get(sessions.cookie))
    if session is None:
        raise _unauthorized("log in, or send a token: Authorization: Bearer TOKEN (bin/mailcrew tokens create)", "")
    return Caller(ADMINISTRATOR, "admin", session)


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


def _is_form() -> bool:
    return request.mimetype in ("application/x-www-form-urlencoded", "multipart/form-data")


def _check_origin() -> None:
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin", "")
    if not (site == "same-origin" or (site is None and origin == request.host_url.rstrip("/"))):
        raise Problem(403, "csrf", "this did not come from one of our pages")


def set_session(response: Response, session: Session | None) -> None:
    """Give the browser the cookie of a session, or take it away."""
    sessions = resources().sessions
    if session is None:
        response.delete_cookie(sessions.cookie, httponly=True, samesite="Lax", secure=request.is_secure)
        return
    response.set_cookie(
        sessions.cookie, sessions.sign(session), expires=session.until, httponly=True,
        samesite="Lax", secure=request.is_secure,
    )  # fmt: skip


def _renew(response: Response) -> Response:
    """Who goes on working stays logged in. A page that only looks by itself does not count as working."""
    known = g.get("caller")
    if isinstance(known, Caller) and known.session and not g.get("quiet") and response.status_code < 400:
        newer = resources().sessions.renewed(known.session)
        if newer and not g.get("session_ended"):
            set_session(response, newer)
    return response


def _release(_error: BaseException | None) -> None:
    """A new connection for each request costs little, and a MySQL that restarted costs no request."""
    db = resources().db
    if not db.peewee.is_closed():
        db.close()
