"""What a form has done, told on the page that comes after it: carried there by a signed cookie, and shown once."""

from __future__ import annotations

from flask import Response, g, request
from itsdangerous import BadData

from app.web.resources import resources

COOKIE = "mailcrew_said"
#: A page that never comes must not tell it next week, in seconds.
LONGEST_SECONDS = 60


def leave(response: Response, text: str) -> None:
    """Have the next page say this."""
    response.set_cookie(
        COOKIE, resources().sessions.sign_text(text), max_age=LONGEST_SECONDS, httponly=True, samesite="Lax",
        secure=request.is_secure,
    )  # fmt: skip


def take() -> str:
    """What the present page is to say, empty when nothing."""
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        return ""
    g.said = True
    try:
        return resources().sessions.read_text(cookie)
    except BadData:
        return ""


def forget(response: Response) -> Response:
    """It has been said."""
    if g.get("said"):
        response.delete_cookie(COOKIE)
    return response
