"""A hundred thousand users, a tenth of them due, and what has become of them."""

from __future__ import annotations

import json
import random
import time

from app.queues import keys
from app.queues.broker import redis_client
from app.schedules.dispatch import QUEUE
from app.schedules.times import MINUTE
from bench import common
from bench.common import Place

USERS, LONGEST_MINUTES, DUE = 100_000, 60, 10


def fill(place: Place, users: int) -> None:
    started = time.monotonic()
    rows = [(i, f"u{i}@example.test", f"u{i}@example.test", 1) for i in range(1, users + 1)]
    place.db.run_many("INSERT INTO users (id, email, email_key, created_at)", rows, chunk=1000)
    common.tell(f"{place.database}: {users:,} users in {time.monotonic() - started:.0f} s")


def make_due(place: Place, users: int, every: int = DUE) -> int:
    """Give everybody a schedule anew, every n-th one due within the last minute; how many are due."""
    db, chance, now = place.db, random.Random(5), place.db.now_ms()
    for name in ("user_monitor_schedules", "schedule_runs"):
        db.run(f"TRUNCATE TABLE {name}" if place.database == "mysql" else f"DELETE FROM {name}")
    rows = []
    for user in range(1, users + 1):
        interval = chance.randint(1, LONGEST_MINUTES) * MINUTE
        away = -chance.randint(0, MINUTE - 1) if user % every == 0 else chance.randint(MINUTE, interval)
        rows.append((user, interval // MINUTE, now + away))
    db.run_many("INSERT INTO user_monitor_schedules (user_id, interval_minutes, next_run_at)", rows, chunk=1000)
    redis_client(place.settings.redis_url).flushdb()
    if place.database == "sqlite":
        db.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        db.rows("ANALYZE TABLE user_monitor_schedules")
    return users // every


def waiting(place: Place) -> int:
    """Different users who wait in Redis."""
    client = redis_client(place.settings.redis_url)
    held = client.hvals(keys.messages(QUEUE))
    assert len(held) == client.llen(keys.waiting(QUEUE))
    return len({json.loads(raw)["args"][0] for raw in held})


def ended(place: Place) -> int:
    return int(place.db.value("SELECT COUNT(*) FROM schedule_runs"))
