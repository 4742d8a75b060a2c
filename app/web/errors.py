"""Every error as {"error": {"code", "message", "field"}}, whatever raised it; no traceback leaves.

Browsers get the same as a page, and who has not logged in is led to the login.
"""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Mapping
from urllib.parse import quote

from flask import Flask, Response, jsonify, make_response, redirect, render_template, request
from werkzeug.exceptions import HTTPException

from app.db.connection import DatabaseTrouble
from app.errors import BadField, MailcrewError, NotFound, Refused, TemplateProblem, Unavailable, UsageError
from app.events import emit, warn
from app.queues.broker import RedisTrouble

#: For errors that Flask raises by itself.
CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
}

#: The status and code of what the layers below raise; the first that fits.
DOMAIN: tuple[tuple[type[MailcrewError], int, str], ...] = (
    (NotFound, 404, "not_found"),
    (UsageError, 400, "invalid"),
    (TemplateProblem, 400, "invalid"),
    (Refused, 409, "refused"),
    (Unavailable, 503, "unavailable"),
)


class Problem(Exception):
    """Raised by a view to answer with an error; `field` names the wrong part of the request."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.headers = dict(headers or {})


def install(app: Flask) -> None:
    """Answer every error of the application in the one shape."""
    app.register_error_handler(Problem, _problem)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(MailcrewError, _domain)
    for database_trouble in DatabaseTrouble:
        app.register_error_handler(database_trouble, _database)
    for redis_trouble in RedisTrouble:
        app.register_error_handler(redis_trouble, _redis)
    app.register_error_handler(Exception, _unforeseen)


def wants_page() -> bool:
    """Whether a browser asks for a page, and no program for a document."""
    return not request.path.startswith("/api/") and "text/html" in request.headers.get("Accept", "")


def _answer(problem: Problem) -> Response:
    if wants_page():
        return _page(problem)
    body = {"error": {"code": problem.code, "message": str(problem), "field": problem.field}}
    response = jsonify(body)
    response.status_code = problem.status
    response.headers.update(problem.headers)
    return response


def _page(problem: Problem) -> Response:
    if problem.status == 401 and "HX-Request" in request.headers:
        # The page around the part that was asked for is as old as the session.
        return Response(status=401, headers={"HX-Refresh": "true"})
    if problem.status == 401:
        there = quote(request.full_path.rstrip("?")) if request.method == "GET" else ""
        found = redirect(f"/login?next={there}" if there else "/login", 303)
        assert isinstance(found, Response)
        return found
    response = make_response(render_template("error.html", problem=problem), problem.status)
    response.headers.update(problem.headers)
    return response


def _problem(error: Problem) -> Response:
    return _answer(error)


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    message = error.description or error.name
    headers = {}
    if status == 404:
        message = f"there is nothing at {request.path}"
    if status == 405:
        allowed = error.get_response().headers.get("Allow", "")
        message, headers = f"{request.method} is not possible here; allowed: {allowed}", {"Allow": allowed}
    if status == 413:
        message = f"the request is too large: {(request.max_content_length or 0) // 1024:,} KiB at most"
    return _answer(Problem(status, CODES.get(status, error.name.lower().replace(" ", "_")), message, headers=headers))


def _domain(error: MailcrewError) -> Response:
    status, code = next(((s, c) for kind, s, c in DOMAIN if isinstance(error, kind)), (400, "failed"))
    field = error.part if isinstance(error, TemplateProblem) else None
    if isinstance(error, BadField):
        field = error.field
    return _answer(Problem(status, code, str(error), field))


def _database(error: Exception) -> Response:
    warn("the database does not answer or is busy", path=request.path, reason=str(error))
    return _unavailable("the database does not answer or is busy; try again")


def _redis(error: Exception) -> Response:
    warn("Redis does not answer", path=request.path, reason=str(error))
    return _unavailable("Redis does not answer; try again")


def _unavailable(message: str) -> Response:
    return _answer(Problem(503, "unavailable", message, headers={"Retry-After": "5"}))


def _unforeseen(error: Exception) -> Response:
    error_id = secrets.token_hex(6)
    emit(
        "request failed", logging.ERROR, id=error_id, method=request.method, path=request.path,
        traceback="".join(traceback.format_exception(error)),
    )  # fmt: skip
    return _answer(Problem(500, "internal", f"something went wrong here; the log has it under id {error_id}"))
