"""Heartbeats: who is alive, by Redis's clock; the dead disappear, and nothing stops the beat."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.queues.broker import redis_client
from app.queues.workers import KEY, STALE_SECONDS, live_workers, threads_serving
from app.workers.heartbeat import Heartbeat, resident_mb
from tests.working import MortalRedis, eventually


@pytest.fixture
def client(redis_server: str) -> Iterator[redis.Redis]:
    client = redis_client(f"{redis_server}?db=13")
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


def heartbeat(client: redis.Redis, program: str = "send_00", processed: int = 3) -> Heartbeat:
    return Heartbeat(
        client, program=program, queues=["expand", "send"], threads=4, busy=lambda: 1, processed=lambda: processed
    )


def plant(client: redis.Redis, field: str, age: float, **changes: object) -> None:
    """A heartbeat of another process, `age` seconds old."""
    seconds, micros = client.time()
    status = {
        "pid": 1, "host": "h", "program": field, "queues": ["send"], "threads": 2, "is_processing": False,
        "processed_count": 0, "rate_per_second": 0.0, "rss_mb": 1.0, "uptime": 1.0,
        "beat_at": seconds + micros / 1e6 - age,
    }  # fmt: skip
    client.hset(KEY, field, json.dumps({**status, **changes}))


def test_a_worker_says_who_it_is_and_what_it_does(client: redis.Redis) -> None:
    heartbeat(client).beat()
    (status,) = live_workers(client)
    assert (status.pid, status.program, status.queues, status.threads) == (
        os.getpid(), "send_00", ["expand", "send"], 4,
    )  # fmt: skip
    assert status.is_processing
    assert status.processed_count == 3
    assert status.rss_mb > 5
    assert abs(status.beat_at - time.time()) < 5


def test_a_worker_that_ends_removes_its_heartbeat(client: redis.Redis) -> None:
    beating = heartbeat(client)
    beating.start()
    eventually(lambda: live_workers(client), "it beats")
    beating.close()
    assert client.hgetall(KEY) == {}


def test_workers_not_heard_of_lately_do_not_count_and_are_removed(client: redis.Redis) -> None:
    plant(client, "fresh", 1)
    plant(client, "dead", STALE_SECONDS + 1)
    assert [status.program for status in live_workers(client)] == ["fresh"]
    assert client.hkeys(KEY) == [b"fresh"]


def test_threads_are_counted_by_the_queues_they_serve(client: redis.Redis) -> None:
    plant(client, "a", 0)
    plant(client, "b", 0, queues=["expand"], threads=8)
    plant(client, "c", 0, queues=["send", "mail"], threads=3)
    assert threads_serving(client, "send") == 5
    assert threads_serving(client, "expand") == 8
    assert threads_serving(client, "monitor") == 0


def test_a_heartbeat_of_another_version_does_not_hide_the_others(client: redis.Redis) -> None:
    plant(client, "newer", 0, something_new=True)
    plant(client, "ours", 0)
    assert "ours" in [status.program for status in live_workers(client)]
    assert threads_serving(client, "send") >= 2


def test_garbage_among_the_heartbeats_does_not_hide_the_workers(client: redis.Redis) -> None:
    client.hset(KEY, "garbage", "{")
    plant(client, "ours", 0)
    assert [status.program for status in live_workers(client)] == ["ours"]


@pytest.fixture
def server() -> Iterator[MortalRedis]:
    directory = Path(tempfile.mkdtemp(prefix="mc-"))
    with MortalRedis(directory) as server:
        yield server
    shutil.rmtree(directory)


def test_the_beat_goes_on_after_redis_was_away(server: MortalRedis) -> None:
    beating = heartbeat(redis_client(server.url))
    beating.start()
    eventually(lambda: live_workers(server.client), "it beats")
    server.kill()
    server.start()
    server.client.delete(KEY)
    eventually(lambda: live_workers(server.client), "it beats again")
    beating.close()


def test_the_beat_goes_on_after_redis_was_full(server: MortalRedis) -> None:
    server.client.config_set("maxmemory", "1")
    beating = heartbeat(redis_client(server.url))
    beating.start()
    time.sleep(0.2)
    server.client.config_set("maxmemory", "0")
    eventually(lambda: live_workers(server.client), "it beats")
    beating.close()


def test_the_memory_of_this_process_is_that_of_the_kernel() -> None:
    status = Path("/proc/self/status").read_text()
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident_mb() == pytest.approx(kilobytes * 1024 / 1e6, rel=0.05)
