"""Read the JSON document of a request."""

from __future__ import annotations

import json
from typing import Any

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from app.web.errors import Problem


def _number(text: str) -> int | float:
    """JSON knows one kind of number: 5.0 is a whole one."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def json_object(*known: str, of_any_type: bool = False) -> dict[str, Any]:
    """The request's JSON object, which may hold these fields only; raises Problem.

    `of_any_type`: whatever its Content-Type says, for `curl -d` says a form's. Not where a browser's session counts.
    """
    if not request.is_json and not of_any_type:
        raise Problem(415, "unsupported_media_type", "send a JSON object with Content-Type: application/json")
    raw, most = request.get_data(), request.max_content_length or 0
    if request.content_length is None and len(raw) >= most:
        # A body of unannounced length is cut off at the limit without a word; a part is not what was asked for.
        raise RequestEntityTooLarge
    try:
        # RecursionError: 64 KiB of brackets are nested too deep for the parser.
        body = json.loads(raw, parse_float=_number)
        # An escaped half of a character (\ud800) is JSON, but can be neither stored nor mailed.
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Problem(400, "bad_request", f"the body is no JSON ({error})") from None
    if not isinstance(body, dict):
        raise Problem(400, "bad_request", "the body must be a JSON object")
    for field in body:
        if field not in known:
            raise Problem(400, "invalid", f"{field!r} is not known here; known: {', '.join(known)}", field)
    return body
