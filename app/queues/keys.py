"""The names of Dramatiq's keys in Redis, and of the few that we keep beside them."""

from __future__ import annotations

from app.queues.broker import NAMESPACE

#: Sorted set: consumer → when it last sent a command, by its own clock.
HEARTBEATS = f"{NAMESPACE}:__heartbeats__"
#: Hash: consumer → the queues it serves, as a JSON list; so that whoever finds it dead knows where to look.
CONSUMERS = "mailcrew:consumers"
#: Hash: consumer → the heartbeat last seen and how long it has not changed.
WATCH = "mailcrew:watch"

#: Hash: what the scripts count where they do it, as "NAME QUEUE" → how often. They fall to 0 with Redis's data.
COUNTED = "mailcrew:counted"


def acks(consumer: str, queue: str) -> str:
    """Set: ids of the messages that a consumer has fetched and not acknowledged."""
    return f"{NAMESPACE}:__acks__.{consumer}.{queue}"


def waiting(queue: str) -> str:
    """List: ids of the messages that wait."""
    return f"{NAMESPACE}:{queue}"


def messages(queue: str) -> str:
    """Hash: id → message, of those that wait or are in hand."""
    return f"{NAMESPACE}:{queue}.msgs"


def dead(queue: str) -> str:
    """Sorted set: ids of the dead letters, by the ms since 1970 in which they died."""
    return f"{NAMESPACE}:{canonical(queue)}.XQ"


def dead_messages(queue: str) -> str:
    """Hash: id → message, of the dead letters."""
    return f"{dead(queue)}.msgs"


def canonical(queue: str) -> str:
    """The queue itself for the queue of its delayed messages."""
    return queue.removesuffix(".DQ")
