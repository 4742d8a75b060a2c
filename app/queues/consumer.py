"""What one worker holds in Redis: its heartbeat and the messages it has in hand."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any
from uuid import uuid4

import redis
from dramatiq import Message
from dramatiq.common import current_millis, dq_name, q_name

from app.queues import keys
from app.queues.dead_letters import read_message, with_reason
from app.queues.scripts import run_script


class Consumer:
    """`name` is the broker's id: Dramatiq's scripts write down under it what was fetched."""

    def __init__(self, client: redis.Redis, name: str, queues: Sequence[str]) -> None:
        self._client = client
        self.name = name
        self._queues = list(queues)

    def beat(self) -> None:
        """Say that this worker lives, and which queues it serves."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.zadd(keys.HEARTBEATS, {self.name: current_millis()})
            pipe.hset(keys.CONSUMERS, self.name, json.dumps(self._queues))
            pipe.execute()

    def leave(self) -> None:
        """Take the heartbeat away; kept while messages are in hand, or nobody would look for them."""
        held = [keys.acks(self.name, name) for queue in self._queues for name in (queue, dq_name(queue))]
        run_script(self._client, "forget", [keys.HEARTBEATS, keys.CONSUMERS, *held], [self.name, ""])

    def put_back(self, queue: str, ids: Sequence[str]) -> int:
        """Put messages back at the head of their queue; how many were still in hand."""
        if not ids:
            return 0
        where = [keys.acks(self.name, queue), keys.waiting(queue), keys.messages(queue)]
        return int(run_script(self._client, "put_back", where, ids))

    def bury(self, queue: str, id_: str, message: Message[Any] | None, reason: str | None, counter: str = "") -> bool:
        """Move a message to the dead letters with what is known of its failure; whether it was in hand.

        `counter`: what grows by one with it, as `app/queues/counted.py` names it.
        Dramatiq's own `nack` keeps the message as it was enqueued: without the error that ended it.
        """
        where = [
            keys.acks(self.name, queue), keys.messages(queue), keys.dead(queue), keys.dead_messages(queue),
            keys.COUNTED,
        ]  # fmt: skip
        data = with_reason(message, reason) if message else b""
        return bool(run_script(self._client, "bury", where, [id_, data, counter]))

    def unknown(self, queue: str, known: Collection[str]) -> list[str]:
        """Ids of what this worker was given and does not know of."""
        given: Any = self._client.smembers(keys.acks(self.name, queue))
        return sorted({id_.decode() for id_ in given}.difference(known))

    def ripen(self, delayed: str, id_: str, message: Message[Any]) -> bool:
        """Move a delayed message to its queue; False when somebody else has it by now."""
        where = [
            keys.acks(self.name, delayed), keys.messages(delayed),
            keys.waiting(message.queue_name), keys.messages(message.queue_name),
        ]  # fmt: skip
        return bool(run_script(self._client, "ripen", where, [id_, message.encode()]))

    def retry(self, queue: str, id_: str, message: Message[Any], delay: int) -> bool:
        """Enqueue a message again in `delay` ms and let go of it, in one step; False when it is not in hand."""
        delayed = dq_name(q_name(queue))
        again = message.copy(
            queue_name=delayed, options={"redis_message_id": str(uuid4()), "eta": current_millis() + delay}
        )
        where = [
            keys.acks(self.name, queue), keys.messages(queue),
            keys.waiting(delayed), keys.messages(delayed),
        ]  # fmt: skip
        return bool(run_script(self._client, "retry", where, [id_, again.options["redis_message_id"], again.encode()]))

    def bury_unreadable(self, queue: str, known: Collection[str]) -> int:
        """Bury what was fetched and is no message; how many. `known` are those that were read."""
        buried = 0
        for id_ in self.unknown(queue, known):
            raw: Any = self._client.hget(keys.messages(queue), id_)
            if raw is None or read_message(raw) is None:
                buried += self.bury(queue, id_, None, None)
        return buried
