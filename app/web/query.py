"""Read the values behind the question mark of an address."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlencode

from flask import Response, request

from app.web.errors import Problem


def whole(name: str, default: int, high: int, low: int = 1) -> int:
    """A whole number from `low` to `high`; raises Problem with the name of what is wrong."""
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise Problem(400, "invalid", f"{name} must be a whole number from {low} to {high}", name)
    return int(text)


def one_of(name: str, allowed: Collection[str], default: str = "") -> str:
    """One of these words; raises Problem."""
    text = request.args.get(name, "")
    if text and text not in allowed:
        raise Problem(400, "invalid", f"{name} must be one of: {', '.join(sorted(allowed))}", name)
    return text or default


def text(name: str, longest: int) -> str:
    """Some text; raises Problem when it is too long or holds signs that no text has."""
    found = request.args.get(name, "")
    if len(found) > longest or "\0" in found or not _is_text(found):
        raise Problem(400, "invalid", f"{name} must be text of at most {longest} characters", name)
    return found


def _is_text(given: str) -> bool:
    try:
        given.encode()
    except UnicodeEncodeError:
        return False  # half of a pair of UTF-16
    return True


def linked(answer: Response, **asked: object) -> Response:
    """The answer, leading to the next page if there is one: then the last of `asked`, its place, is not None."""
    if list(asked.values())[-1] is not None:
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        answer.headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return answer
