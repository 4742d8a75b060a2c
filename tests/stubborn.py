"""Actors that are hard on their worker, for `bin/worker --modules tests.stubborn`.

What began and ended is written down in Redis, in `tests.reaping`'s lists.
"""

from __future__ import annotations

import re
import time
from typing import Any

import dramatiq

from actors.broker import broker
from tests.reaping import BEGAN, ENDED, GO

HELD: list[bytearray] = []


def hold(what: str) -> None:
    broker.client.rpush(BEGAN, what)
    while not broker.client.exists(GO):
        time.sleep(0.05)
    broker.client.rpush(ENDED, what)


@dramatiq.actor(queue_name="work", min_backoff=200, max_backoff=400)
def fail(what: str) -> None:
    """Takes the worker's own number of tries."""
    broker.client.rpush(BEGAN, what)
    raise RuntimeError("no")


@dramatiq.actor(queue_name="work", min_backoff=200, max_backoff=400)
def linger(what: str) -> None:
    """Python code: the time limit's exception reaches it."""
    hold(what)


@dramatiq.actor(queue_name="work", min_backoff=200, max_backoff=400)
def block(what: str) -> None:
    """One call into C that lets others run; no exception is raised before it returns."""
    broker.client.rpush(BEGAN, what)
    time.sleep(600)


@dramatiq.actor(queue_name="work", max_retries=0, time_limit=600_000)
def freeze(what: str) -> None:
    """One call into C that keeps the interpreter: no other thread of the process runs any more."""
    broker.client.rpush(BEGAN, what)
    re.match(r"(a+)+$", "a" * 60 + "b")


@dramatiq.actor(queue_name="work", max_retries=0)
def grow(megabytes: int) -> None:
    """Takes memory, then waits to be let go."""
    HELD.append(bytearray(megabytes * 1_000_000))
    hold("grow")


@dramatiq.actor(queue_name="work", max_retries=0)
def note(what: Any) -> None:
    broker.client.rpush(ENDED, str(what))
