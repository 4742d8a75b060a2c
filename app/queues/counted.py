"""What the scripts count in Redis, in the same step as what they do: no database is asked where messages move."""

from __future__ import annotations

from typing import Any

import redis

from app.queues import keys

#: Messages of dead workers that were put back; those that had killed too many and became dead letters.
RECOVERED, QUARANTINED = "recovered", "quarantined"


def field(name: str, queue: str) -> str:
    """Where a script counts for a queue; delayed messages count for the queue they go to."""
    return f"{name} {keys.canonical(queue)}"


def counted_so_far(client: redis.Redis) -> dict[str, dict[str, int]]:
    """By RECOVERED and QUARANTINED the counts of each queue since Redis was empty."""
    found: dict[str, dict[str, int]] = {RECOVERED: {}, QUARANTINED: {}}
    stored: Any = client.hgetall(keys.COUNTED)
    for key, value in stored.items():
        name, _, queue = key.decode(errors="replace").partition(" ")
        if name in found:
            found[name][queue] = int(value)
    return found
