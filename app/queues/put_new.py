"""Enqueue messages so that each is there once, however often it is asked for: its id in Redis is its maker's choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dramatiq
import redis

from app.queues import keys
from app.queues.scripts import run_script

#: Messages of one script call.
CHUNK = 250


def put_new(client: redis.Redis, queue: str, actor: str, messages: Mapping[str, Sequence[Any]]) -> int:
    """Enqueue a message for each id → arguments, by the actor's name; how many Redis did not know yet.

    Every chunk is one step. After an error those of the chunk are all there or all not.
    """
    ids, done = list(messages), 0
    for start in range(0, len(ids), CHUNK):
        pairs: list[str | bytes | int] = []
        for id_ in ids[start : start + CHUNK]:
            message: dramatiq.Message[Any] = dramatiq.Message(
                queue_name=queue, actor_name=actor, args=tuple(messages[id_]), kwargs={},
                options={"redis_message_id": id_},
            )  # fmt: skip
            pairs += (id_, message.encode())
        done += int(run_script(client, "put_new", [keys.waiting(queue), keys.messages(queue)], pairs))
    return done
