"""What a worker says of itself, kept in Redis for people and for scaling; nothing depends on it."""

from __future__ import annotations

import json
import os
import resource
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict

import redis

from app.queues.broker import RedisTrouble
from app.queues.workers import KEY, WorkerStatus

BEAT_SECONDS = 2.0
#: The speed that is told covers so many seconds, or the whole life of a younger worker.
RATE_SECONDS = 30.0


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
        self._ended = deque([(self._started, 0)])
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
        self._ended.append((now, processed))
        while len(self._ended) > 2 and self._ended[1][0] <= now - RATE_SECONDS:
            self._ended.popleft()
        then, before = self._ended[0]
        seconds, micros = self._client.time()
        task, task_seconds = self._task() or (None, None)
        status = WorkerStatus(
            pid=os.getpid(), host=self._host, program=self._program, queues=self._queues, threads=self._threads,
            campaign_id=self._campaign(), is_processing=self._busy() > 0, processed_count=processed,
            rate_per_second=round((processed - before) / max(now - then, 1.0), 2),
            rss_mb=resident_mb(), uptime=round(now - self._started, 1), beat_at=seconds + micros / 1e6,
            task=task, task_seconds=task_seconds, trouble=self._trouble(),
        )  # fmt: skip
        self._client.hset(KEY, self._field, json.dumps(asdict(status)))


def resident_mb() -> float:
    """Memory this process holds now, in MB (proc(5))."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123 (read every two seconds)
            return round(int(file.read().split()[1]) * resource.getpagesize() / 1e6, 1)
    except OSError:
        return 0.0
