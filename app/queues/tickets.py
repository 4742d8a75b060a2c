"""Tickets: messages that mean "there is work in this queue", not "do this"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from app.queues.broker import NAMESPACE


def enqueue(broker: RedisBroker, queue: str, actor: str, args: Sequence[Any] = (), **options: Any) -> None:
    """Enqueue by the actor's name, so that the caller need not import the actor."""
    broker.enqueue(dramatiq.Message(queue_name=queue, actor_name=actor, args=tuple(args), kwargs={}, options=options))


def waiting(broker: RedisBroker, queue: str) -> int:
    """Messages of a queue that nobody has fetched yet."""
    return int(broker.client.llen(f"{NAMESPACE}:{queue}"))


def top_up(broker: RedisBroker, queue: str, actor: str, wanted: int) -> int:
    """Bring the waiting tickets up to `wanted`; how many were added.

    Those in hand do not count: a dead worker's would, for ever, and nothing would be sent any more.
    Two that top up at once may add a few too many: a spare ticket finds nothing and is gone.
    """
    missing = wanted - waiting(broker, queue)
    for _ in range(missing):
        enqueue(broker, queue, actor)
    return max(0, missing)


def discard(broker: RedisBroker, queue: str) -> None:
    """Throw away the waiting tickets of a queue that nobody serves any more."""
    broker.client.delete(f"{NAMESPACE}:{queue}", f"{NAMESPACE}:{queue}.msgs")
