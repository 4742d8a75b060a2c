"""How much waits in Redis, queue by queue, and for how long already."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis
from dramatiq.common import dq_name

from app.queues import keys


@dataclass(frozen=True)
class Depth:
    """The messages of one queue; `oldest_seconds`: how long its head has existed, None when nothing waits."""

    waiting: int
    in_hand: int
    delayed: int
    dead: int
    oldest_seconds: float | None


def depths(client: redis.Redis, queues: Iterable[str]) -> dict[str, Depth]:
    """The depth of each queue, all counted at one moment; ages by Redis's clock."""
    names = list(queues)
    with client.pipeline(transaction=True) as pipe:
        pipe.time()
        for name in names:
            pipe.llen(keys.waiting(name))
            pipe.hlen(keys.messages(name))
            pipe.hlen(keys.messages(dq_name(name)))
            pipe.zcard(keys.dead(name))
            pipe.lindex(keys.waiting(name), 0)
        (seconds, micros), *counts = pipe.execute()
    rows = dict(zip(names, (counts[i : i + 5] for i in range(0, len(counts), 5)), strict=True))
    heads = {name: row[4].decode() for name, row in rows.items() if row[4] is not None}
    born = _births(client, heads)
    now = seconds + micros / 1e6
    return {
        name: Depth(
            waiting=waiting, in_hand=max(0, held - waiting), delayed=delayed, dead=dead,
            oldest_seconds=max(0.0, now - born[name]) if name in born else None,
        )
        for name, (waiting, held, delayed, dead, _) in rows.items()
    }  # fmt: skip


def _births(client: redis.Redis, heads: dict[str, str]) -> dict[str, float]:
    """When the first message of each queue was made, in seconds since 1970, by its maker's clock."""
    with client.pipeline(transaction=False) as pipe:
        for name, id_ in heads.items():
            pipe.hget(keys.messages(name), id_)
        stored: list[Any] = pipe.execute()
    found = {}
    for name, raw in zip(heads, stored, strict=True):
        try:
            found[name] = json.loads(raw)["message_timestamp"] / 1000
        except (TypeError, ValueError, KeyError):
            continue  # fetched meanwhile, or no message of Dramatiq's
    return found
