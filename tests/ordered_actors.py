"""Actors that write down in Redis, as they start, which of them it is; loaded by a worker of its own process."""

from __future__ import annotations

import time

import dramatiq

from actors.broker import broker
from app.queues.tickets import enqueue

TRACE = "test:trace"
#: How many tasks of `high` a task puts there while it runs.
MORE = 30


@dramatiq.actor(queue_name="high", max_retries=0)
def urgent(name: str) -> None:
    _begin("high", name)
    if name == "asks for more":
        more("more")


@dramatiq.actor(queue_name="default", max_retries=0)
def ordinary(name: str) -> None:
    _begin("default", name)
    if name == "0":
        more("late")
        broker.client.rpush(TRACE, "more is there")


def more(name: str) -> None:
    for _ in range(MORE):
        enqueue(broker, "high", "urgent", [name])


def _begin(queue: str, name: str) -> None:
    broker.client.rpush(TRACE, f"{queue} {name}")
    # Long enough that the other threads begin theirs meanwhile.
    time.sleep(0.02)
