"""Small real actors for the tests of scaling: each task ends when the test lets it, and leaves a mark."""

from __future__ import annotations

import os
import time

import dramatiq

from actors.broker import broker

#: The tasks below this number may end.
GATE = "test:gate"
#: Hash: task → how many times it has ended.
DONE = "test:done"
#: Hash: task → pid of the worker that has it in hand, or had.
TAKEN = "test:taken"


def _until_the_gate_opens(number: int) -> None:
    broker.client.hset(TAKEN, number, os.getpid())
    while int(broker.client.get(GATE) or 0) <= number:
        time.sleep(0.02)
    broker.client.hincrby(DONE, str(number), 1)


@dramatiq.actor(queue_name="work", max_retries=0)
def work(number: int) -> None:
    _until_the_gate_opens(number)


@dramatiq.actor(queue_name="slow", max_retries=0)
def slow(number: int) -> None:
    _until_the_gate_opens(number)
