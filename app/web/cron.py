"""POST /api/cron/dispatch and /api/cron/one-click-start: what a crontab calls, with a secret instead of a token."""

from __future__ import annotations

import hmac
import threading
from typing import Annotated, Any, Literal, NotRequired, TypedDict, get_args

from flask import Blueprint, Response, jsonify, request

from app.schedules.answers import Answer, answer_direct, answer_queue, answer_sync
from app.schedules.checks.run import run_checks
from app.schedules.document import DispatchDocument
from app.schedules.users import is_id
from app.secrets import secret
from app.web.access import open_to_all
from app.web.body import json_object
from app.web.errors import Problem
from app.web.openapi import describes
from app.web.resources import resources

routes = Blueprint("cron", __name__, url_prefix="/api/cron")

HEADER = "x-cron-secret"
Mode = Literal["queue", "direct", "sync"]
MODES = get_args(Mode)
#: Calls that make checks at a time: each may take minutes, and the console needs the other threads of the server.
AT_ONCE = 4
#: How long a call waits for one of those to end, in seconds.
PATIENCE = 2.0
_places = threading.BoundedSemaphore(AT_ONCE)


class DispatchRequest(TypedDict):
    """Nothing: enqueue whoever is due. A user: run that one here. `mode` sync: run here whoever is due."""

    mode: NotRequired[Mode]
    userId: NotRequired[Annotated[int, {"minimum": 1}]]
    email: NotRequired[str]


@routes.post("/dispatch")
@open_to_all
@describes(
    f"Have the checks made that are due; wants the header {HEADER}",
    DispatchDocument,
    takes=DispatchRequest,
    may_be_empty=True,
)
def dispatch() -> Response:
    here = resources()
    _check_secret()
    body = json_object("mode", "userId", "email", of_any_type=True) if request.get_data() else {}
    return jsonify(_dispatched(body).document(here.db))


@routes.post("/one-click-start")
@open_to_all
@describes(
    "The same as /api/cron/dispatch, for older crontabs", DispatchDocument, takes=DispatchRequest, may_be_empty=True
)
def one_click_start() -> Response:
    return dispatch()


def _check_secret() -> None:
    expected = secret(resources().settings, "CRON_SECRET")
    if not expected:
        raise Problem(
            500, "switched_off", "CRON_SECRET is set to nothing, so this route is closed; set it to some text, or take "
            "the line away to have a secret made, and restart web",
        )  # fmt: skip
    given = request.headers.get(HEADER)
    if given is None or not hmac.compare_digest(given.encode(), expected.encode()):
        wrong = "missing" if given is None else "wrong"
        raise Problem(401, "unauthorized", f"the header {HEADER} is {wrong}", headers={"WWW-Authenticate": HEADER})


def _dispatched(body: dict[str, Any]) -> Answer:
    here = resources()
    said = _user(body)
    mode = body.get("mode", "queue" if said is None else "direct")
    if mode not in MODES:
        raise Problem(400, "invalid", f"mode must be one of: {', '.join(MODES)}", "mode")
    if (mode == "direct") != (said is not None):
        raise Problem(400, "invalid", "userId or email goes with mode direct, and with no other", "mode")
    if mode == "queue":
        return answer_queue(here.db, here.settings, here.redis)
    if not _places.acquire(timeout=PATIENCE):
        wait = f"{AT_ONCE} calls are making checks already; whoever is due stays due, try again in a minute"
        raise Problem(503, "busy", wait, headers={"Retry-After": "60"})
    try:
        if said is not None:
            return answer_direct(here.db, here.settings, said, run_checks)
        return answer_sync(here.db, here.settings, run_checks)
    finally:
        _places.release()


def _user(body: dict[str, Any]) -> str | int | None:
    id_, email = body.get("userId"), body.get("email")
    if "userId" in body and "email" in body:
        raise Problem(400, "invalid", "name the user by userId or by email, not by both", "email")
    if "userId" in body and not (isinstance(id_, str | int) and is_id(id_)):
        raise Problem(400, "invalid", "userId must be the id of a user", "userId")
    if "email" in body and not isinstance(email, str):
        raise Problem(400, "invalid", "email must be an address", "email")
    return id_ if id_ is not None else email
