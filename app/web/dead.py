"""/api/dead: messages that failed for good: look, replay, delete; one, chosen ones or all of a queue."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NotRequired, TypedDict
from urllib.parse import urlencode

import redis
from flask import Blueprint, Response, jsonify, request

from app.instants import iso
from app.queues import keys
from app.queues.dead_letters import DeadLetter, dead_letters, delete, find_dead_letter, letters_of_now, replay
from app.web.body import json_object
from app.web.errors import Problem
from app.web.openapi import PAGED, describes, whole_number
from app.web.query import text, whole
from app.web.resources import resources
from app.web.schemas import Words
from app.web.sights import table

routes = Blueprint("dead", __name__, url_prefix="/api/dead")

PAGE = 50
LARGEST_PAGE = 500
LONGEST_NAME = 200
#: Arguments are shown so far.
SHOWN_CHARACTERS = 300
MOST_CHOSEN = 500

Settle = Callable[[redis.Redis, DeadLetter], bool]


class DeadDocument(TypedDict):
    """`id`: the message's own, as the logs know it."""

    id: str
    queue: str
    actor: str | None
    arguments: str
    failed_at: str | None
    reason: str
    retries: int


class Which(TypedDict):
    """These of a queue, or with `all` every one that is in it now."""

    queue: Words
    ids: NotRequired[list[str]]
    all: NotRequired[bool]


class Settled(TypedDict):
    """`left`: those that could not be: unreadable, or gone meanwhile."""

    done: int
    left: int


@routes.get("")
@describes(
    "Messages of a queue that failed for good, the oldest first", list[DeadDocument],
    query={
        "queue": {"type": "string", "maxLength": LONGEST_NAME, "description": "all queues when it is not named"},
        "limit": whole_number(1, LARGEST_PAGE, "how many", PAGE),
        "skip": {"type": "integer", "minimum": 0, "maximum": 1_000_000, "description": "so many older ones"},
        "search": {"type": "string", "maxLength": 100, "description": "in actor, reason or arguments"},
    },
    headers=PAGED,
)  # fmt: skip
def every() -> Response:
    limit, skip = whole("limit", PAGE, LARGEST_PAGE), whole("skip", 0, 1_000_000, 0)
    queue, search = text("queue", LONGEST_NAME), text("search", 100)
    found, more = chosen(queue, search, limit, skip)
    answer = jsonify([describe(letter) for letter in found])
    if more:
        asked = {"queue": queue, "search": search, "limit": limit, "skip": skip + limit}
        query = urlencode({name: value for name, value in asked.items() if value})
        answer.headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return answer


@routes.post("/replay")
@describes("Enqueue messages again, as if they were new", Settled, takes=Which)
def again() -> dict[str, Any]:
    return _settle(replay)


@routes.post("/delete")
@describes("Delete messages for good", Settled, takes=Which)
def remove() -> dict[str, Any]:
    return _settle(delete)


def chosen(queue: str, search: str, limit: int, skip: int) -> tuple[list[DeadLetter], bool]:
    """A page of the dead letters of one queue (all when it is empty), and whether there are more."""
    client = resources().redis
    queues = [queue] if queue else names()
    if search:
        every = (letter for name in queues for letter in dead_letters(client, name))
        letters: Iterator[DeadLetter] = islice((one for one in every if search.lower() in _searched(one)), skip, None)
    else:
        letters = _behind(client, queues, skip)
    found = list(islice(letters, limit + 1))
    return found[:limit], len(found) > limit


def _behind(client: redis.Redis, queues: list[str], skip: int) -> Iterator[DeadLetter]:
    """The dead letters of these queues, one queue after another, without reading the first ones."""
    for name in queues:
        yield from dead_letters(client, name, skip)
        skip = max(0, skip - int(client.zcard(keys.dead(name)))) if skip else 0


def settle(queue: str, ids: list[str] | None, act: Settle) -> tuple[int, int]:
    """Replay or delete these of a queue, all with None; how many were, and how many could not be."""
    client = resources().redis
    if ids is None:
        letters = list(letters_of_now(client, queue)) if act is not delete else letters_of_now(client, queue)
    else:
        letters = [found for id_ in ids if (found := find_dead_letter(client, [queue], id_))]
    done = left = 0
    for letter in letters:
        settled = act(client, letter)
        done, left = done + settled, left + (not settled)
    return done, left + (len(ids) - done - left if ids else 0)


def names() -> list[str]:
    """Every queue of the table."""
    return list(dict.fromkeys(name for queue in table().queues for name in queue.queues))


def describe(letter: DeadLetter) -> dict[str, Any]:
    message = letter.message
    return {
        "id": letter.id, "queue": letter.queue, "actor": message.actor_name if message else None,
        "arguments": arguments(letter), "failed_at": iso(letter.failed_at), "reason": letter.reason,
        "retries": letter.retries,
    }  # fmt: skip


def arguments(letter: DeadLetter) -> str:
    """Its arguments as JSON, the beginning of them when they are long."""
    if letter.message is None:
        return ""
    values = [json.dumps(value, ensure_ascii=False, default=str) for value in letter.message.args]
    values += [f"{n}={json.dumps(v, ensure_ascii=False, default=str)}" for n, v in letter.message.kwargs.items()]
    whole_text = ", ".join(values)
    return whole_text if len(whole_text) <= SHOWN_CHARACTERS else f"{whole_text[:SHOWN_CHARACTERS]}…"


def _searched(letter: DeadLetter) -> str:
    actor = letter.message.actor_name if letter.message else ""
    return f"{letter.id} {actor} {arguments(letter)} {letter.reason}".lower()


def _settle(act: Settle) -> dict[str, Any]:
    body = json_object("queue", "ids", "all")
    queue, ids, every_one = body.get("queue"), body.get("ids"), body.get("all", False)
    if not isinstance(queue, str) or not 0 < len(queue) <= LONGEST_NAME:
        raise Problem(400, "invalid", "queue must be the name of a queue", "queue")
    if ids is not None and not (
        isinstance(ids, list) and len(ids) <= MOST_CHOSEN and all(isinstance(id_, str) and id_ for id_ in ids)
    ):
        raise Problem(400, "invalid", f"ids must be a list of at most {MOST_CHOSEN} ids", "ids")
    if type(every_one) is not bool or every_one == bool(ids):
        raise Problem(400, "invalid", 'say which: "ids", or "all": true', "all")
    done, left = settle(queue, None if every_one else ids, act)
    return {"done": done, "left": left}
