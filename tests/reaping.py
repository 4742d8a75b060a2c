"""A worker of its own process that may be killed: `python -m tests.reaping URL QUEUES THREADS`.

Its times are short, so that a test of a dead worker takes a second; DEFAULTS=1 leaves them as they are.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import dramatiq.brokers.redis
import redis
from dramatiq.brokers.redis import RedisBroker

from app.config import ROOT
from app.queues import consumer
from app.queues.broker import NAMESPACE, make_broker
from app.queues.reaper import Reaper
from app.workers import loop

#: Who has not been heard of for so long is dead, in seconds; SILENT in the environment.
SILENT = 1.0
BEAT = 0.2
#: What the actors leave in Redis: what began, what ended, and whether `hold` may end.
BEGAN, ENDED, GO = "test:began", "test:ended", "test:go"


def outstanding(broker: RedisBroker, queue: str) -> int:
    """Messages of a queue that wait or are being worked on."""
    return int(broker.client.hlen(f"{NAMESPACE}:{queue}.msgs"))


class Doomed:
    """A worker process; `skew` is what its clock is wrong by, in seconds."""

    def __init__(self, url: str, queues: Sequence[str], threads: int = 1, skew: int = 0, **environ: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reaping", url, ",".join(queues), str(threads)],
            cwd=ROOT, env={**os.environ, "SKEW": str(skew), **environ}, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self) -> Doomed:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(60)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None


def ran(client: redis.Redis, which: str = ENDED) -> list[str]:
    """What has run, in order."""
    return [one.decode() for one in client.lrange(which, 0, -1)]  # type: ignore[union-attr]


def main(url: str, queues: str, threads: str) -> None:
    skew = int(os.environ["SKEW"]) * 1000
    clock = dramatiq.common.current_millis
    for module in (dramatiq.brokers.redis, consumer):
        module.current_millis = lambda: clock() + skew  # type: ignore[attr-defined]
    broker = make_broker(url)
    client = broker.client

    @dramatiq.actor(broker=broker)
    def note(what: str) -> None:
        client.rpush(BEGAN, what)
        client.rpush(ENDED, what)

    @dramatiq.actor(broker=broker)
    def hold(what: str) -> None:
        client.rpush(BEGAN, what)
        while not client.exists(GO):
            time.sleep(0.05)
        client.rpush(ENDED, what)

    @dramatiq.actor(broker=broker)
    def poison(what: str) -> None:
        client.rpush(BEGAN, what)
        os.kill(os.getpid(), signal.SIGKILL)

    names = queues.split(",")
    if "DEFAULTS" in os.environ:
        reaper = None
    else:
        loop.BEAT_SECONDS = BEAT
        reaper = Reaper(client, names, silent=float(os.environ.get("SILENT", SILENT)), every=BEAT)
    worker = loop.WorkerLoop(
        broker, names, threads=int(threads), poll=0.1, stop=threading.Event(), reaper=reaper
    )  # fmt: skip
    worker.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
