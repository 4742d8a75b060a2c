"""Who works: what the workers of all hosts said of themselves lately, read from Redis."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

import redis

KEY = "mailcrew:workers"
#: A worker that has not been heard for this long is not counted any more.
STALE_SECONDS = 15.0


@dataclass(frozen=True)
class WorkerStatus:
    """One worker. `beat_at`: seconds since 1970 by Redis's clock; `rss_mb`: memory it holds now.

    `task`: the actor that has run longest, `task_seconds`: for how long at `beat_at`; None when idle.
    `trouble`: what keeps it from working, None or empty when nothing does.
    """

    pid: int
    host: str
    program: str
    queues: list[str]
    threads: int
    campaign_id: int | None
    is_processing: bool
    processed_count: int
    rate_per_second: float
    rss_mb: float
    uptime: float
    beat_at: float
    task: str | None = None
    task_seconds: float | None = None
    trouble: str | None = None


def live_workers(client: redis.Redis) -> list[WorkerStatus]:
    """The workers heard of lately; removes what the dead left."""
    seconds, micros = client.time()
    now = seconds + micros / 1e6
    live: list[tuple[bytes | str, WorkerStatus]] = []
    dead: list[tuple[bytes | str, WorkerStatus]] = []
    for key, raw in client.hgetall(KEY).items():
        status = _read(raw)
        # One that cannot be read is of another version: it may be alive, so it stays.
        if status is None:
            continue
        (live if now - status.beat_at < STALE_SECONDS else dead).append((key, status))
    if dead:
        client.hdel(KEY, *[key for key, _ in dead])
    return sorted((status for _, status in live), key=lambda status: status.program)


def _read(raw: bytes | str) -> WorkerStatus | None:
    """A heartbeat without the fields that this version does not know; None for what is none."""
    try:
        said = json.loads(raw)
        status = WorkerStatus(**{f.name: said.get(f.name) for f in fields(WorkerStatus)})
        return status if status.beat_at > 0 and status.threads > 0 and status.queues is not None else None
    except (ValueError, TypeError, AttributeError):
        return None


def threads_serving(client: redis.Redis, queue: str) -> int:
    """How many worker threads serve a queue."""
    return sum(status.threads for status in live_workers(client) if queue in status.queues)
