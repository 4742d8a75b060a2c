"""GET /api/queues: what waits, what is in hand, what is dead, who works."""

from __future__ import annotations

from typing import Any, TypedDict

import redis
from flask import Blueprint, Response, jsonify

from app.queues.broker import NAMESPACE
from app.queues.workers import live_workers
from app.web.openapi import describes
from app.web.resources import resources
from app.web.sights import table

routes = Blueprint("queues", __name__, url_prefix="/api/queues")


class QueueDocument(TypedDict):
    """Messages of one queue, and the workers that serve it."""

    name: str
    waiting: int
    in_hand: int
    delayed: int
    dead: int
    workers: int


@routes.get("")
@describes("What waits, is in hand or dead in every queue", list[QueueDocument])
def every() -> Response:
    names = list(dict.fromkeys(name for queue in table().queues for name in queue.queues))
    return jsonify(count(resources().redis, names))


def count(client: redis.Redis, names: list[str]) -> list[dict[str, Any]]:
    """The messages and workers of each queue, messages counted at one moment."""
    with client.pipeline(transaction=True) as pipeline:
        for name in names:
            key = f"{NAMESPACE}:{name}"
            pipeline.llen(key)
            pipeline.hlen(f"{key}.msgs")
            pipeline.hlen(f"{key}.DQ.msgs")
            pipeline.zcard(f"{key}.XQ")
        counts = pipeline.execute()
    workers = live_workers(client)
    found = []
    for number, name in enumerate(names):
        waiting, held, delayed, dead = counts[4 * number : 4 * number + 4]
        found.append(
            {
                "name": name,
                "waiting": waiting,
                "in_hand": max(0, held - waiting),
                "delayed": delayed,
                "dead": dead,
                "workers": sum(name in status.queues for status in workers),
            }
        )
    return found
