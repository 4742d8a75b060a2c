"""What a worker says of itself, kept in Redis for people and for scaling; nothing depends on it."""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields

import redis

from app.queues.broker import RedisTrouble

KEY = "mailcrew:workers"
BEAT_SECONDS = 2.0
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


class Heartbeat:
    """Beats on a thread of its own until closed, then removes itself."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        program: str,
        queues: Sequence[str],
        threads: int,
        busy: Callable[[], int],
        processed: Callable[[], int],
        campaign: Callable[[], int | None] = lambda: None,
        task: Callable[[], tuple[str, float] | None] = lambda: None,
        trouble: Callable[[], str] = lambda: "",
    ) -> None:
        self._client = client
        self._program = program
        self._queues = list(queues)
        self._threads = threads
        self._busy = busy
        self._processed = processed
        self._campaign = campaign
        self._task = task
        self._trouble = trouble
        self._host = socket.gethostname()
        self._field = f"{self._host}:{os.getpid()}"
        self._started = time.monotonic()
        self._last = (self._started, 0)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        try:
            self._client.hdel(KEY, self._field)
        except RedisTrouble:
            pass  # it goes stale by itself

    def _run(self) -> None:
        while True:
            try:
                self.beat()
            except RedisTrouble:
                pass  # the worker loop tells of it; the next beat tries again
            if self._closed.wait(BEAT_SECONDS):
                return

    def beat(self) -> None:
        now, processed = time.monotonic(), self._processed()
        then, before = self._last
        self._last = (now, processed)
        seconds, micros = self._client.time()
        task, task_seconds = self._task() or (None, None)
        status = WorkerStatus(
            pid=os.getpid(), host=self._host, program=self._program, queues=self._queues, threads=self._threads,
            campaign_id=self._campaign(), is_processing=self._busy() > 0, processed_count=processed,
            rate_per_second=round((processed - before) / max(now - then, 0.001), 1),
            rss_mb=resident_mb(), uptime=round(now - self._started, 1), beat_at=seconds + micros / 1e6,
            task=task, task_seconds=task_seconds, trouble=self._trouble(),
        )  # fmt: skip
        self._client.hset(KEY, self._field, json.dumps(asdict(status)))


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


def resident_mb() -> float:
    """Memory this process holds now, in MB (proc(5))."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123 (read every two seconds)
            return round(int(file.read().split()[1]) * resource.getpagesize() / 1e6, 1)
    except OSError:
        return 0.0
