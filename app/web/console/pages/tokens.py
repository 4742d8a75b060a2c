"""The tokens of the API: who has one, for what, used when; a new one, shown once; ending one."""

from __future__ import annotations

from typing import Any

from flask import Response, make_response, request

from app.models.tables import Token
from app.models.tokens import SCOPES
from app.web.console.page import Page, render
from app.web.errors import Problem
from app.web.tokens import AT_TOKEN, LEAST, LONGEST_NAME, made, revoked

page = Page("tokens", nav=("access", 20))


@page.get("/tokens", scope="admin")
def look() -> dict[str, Any]:
    return {"tokens": list(Token.select().order_by(Token.name)), "scopes": SCOPES, "least": LEAST,
            "longest": LONGEST_NAME}  # fmt: skip


@page.post("/tokens/new")
def new() -> Response:
    """Answered with the page itself: a token belongs into no cookie and no address."""
    name, scope = request.form.get("name", "").strip(), request.form.get("scope", "")
    try:
        token = made(name, scope)
    except Problem as problem:
        return _shown(problem.status, typed=request.form, wrong={problem.field or "": str(problem)})
    return _shown(201, token=token, name=name)


@page.post(f"/tokens{AT_TOKEN}/revoke")
def revoke(token_id: int) -> Response:
    return page.done("/tokens", "tokens.was_revoked", name=revoked(token_id))


def _shown(status: int, **values: Any) -> Response:
    return make_response(render("tokens.html", **look(), **values, page_name=page.name), status)
