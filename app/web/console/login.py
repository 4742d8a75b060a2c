"""The one administrator comes in by a password, and goes."""

from __future__ import annotations

import secrets

from flask import Blueprint, Response, g, make_response, redirect, request

from app.web import attempts, audit
from app.web.access import ADMINISTRATOR, caller, check_form_token, needs, open_to_all, set_session
from app.web.console.page import render
from app.web.errors import Problem
from app.web.resources import resources

routes = Blueprint("login", __name__)

#: How long a login page may stand open, in seconds.
FORM_SECONDS = 24 * 3600
#: Before a visitor's name, so that it is never that of a session.
VISITOR = "visitor:"


@routes.get("/login")
@open_to_all
def form() -> Response:
    sessions = resources().sessions
    if sessions.read(request.cookies.get(sessions.cookie)):
        return _to(local(request.args.get("next", "")))
    return _form(200)


@routes.post("/login")
@open_to_all
def come_in() -> Response:
    here = resources()
    # Without it, another site could log somebody in who then works, unknowingly, where that site wants.
    visitor = request.cookies.get(here.sessions.form_cookie, "")
    try:
        check_form_token(VISITOR + visitor)
    except Problem:
        return _form(403, "login.old")
    address, now = request.remote_addr or "", here.db.now_ms()
    if not attempts.may_try(here.db, address, now):
        return _form(429, "login.too_many")
    if not here.sessions.right_password(request.form.get("password", "")):
        audit.write(here.db, "nobody", "login refused")
        return _form(401, "login.wrong")
    attempts.forget(here.db, address)
    audit.write(here.db, ADMINISTRATOR, attempts.LET_IN)
    response = _to(local(request.form.get("next", "")))
    set_session(response, here.sessions.begin())
    response.delete_cookie(here.sessions.form_cookie)
    return response


@routes.post("/logout")
@needs("read")
def leave() -> Response:
    session = caller().session
    if session:
        resources().sessions.end(session)
        g.session_ended = True
    response = _to("/login")
    set_session(response, None)
    return response


def local(path: str) -> str:
    """A path on this server, whatever was asked for."""
    ours = path.startswith("/") and not path.startswith("//") and path.isprintable() and "\\" not in path
    return path if ours else "/"


def _form(status: int, trouble: str = "") -> Response:
    """The page, with a token for this visitor, who has no session yet."""
    sessions = resources().sessions
    visitor = request.cookies.get(sessions.form_cookie) or secrets.token_hex(16)
    g.visitor_token = sessions.form_token(VISITOR + visitor)
    next_ = local(request.values.get("next", ""))
    response = make_response(render("login.html", trouble=trouble, next=next_), status)
    response.set_cookie(
        sessions.form_cookie, visitor, max_age=FORM_SECONDS, httponly=True, samesite="Strict", secure=request.is_secure
    )
    if status == 429:
        response.headers["Retry-After"] = str(attempts.WINDOW_MS // 1000)
    return response


def _to(path: str) -> Response:
    found = redirect(path, 303)
    assert isinstance(found, Response)
    return found
