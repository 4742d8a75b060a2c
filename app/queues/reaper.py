"""Brings back the messages of workers that died, and buries those that kill whoever runs them.

Every worker looks every ten seconds, so any survivor is enough: a dead worker is found at most
50 seconds after its death. Dramatiq's own maintenance, which this replaces, comes at random.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis
from dramatiq.common import dq_name

from app.events import emit, warn
from app.queues import keys
from app.queues.consumer import Consumer
from app.queues.counted import QUARANTINED, RECOVERED, field
from app.queues.dead_letters import read_message, trim
from app.queues.scripts import run_script

#: A worker beats every five seconds; after this long without a beat it is taken for dead.
SILENT_SECONDS = 30.0
LOOK_SECONDS = 10.0
#: A message is buried when this many workers have died with it in hand.
DEATHS = 3
#: Bounds of one look: consumers watched, dead ones worked off, messages moved by one script, scripts run.
WATCHED = 500
WORKED_OFF = 50
CHUNK = 500
CHUNKS = 40


@dataclass(frozen=True)
class Reaped:
    """What one look did: dead consumers that are done with, messages put back, messages buried."""

    consumers: int = 0
    put_back: int = 0
    buried: int = 0


class Reaper:
    """Looks after the dead, at most once per interval; for one thread."""

    def __init__(
        self, client: redis.Redis, queues: Iterable[str], *, silent: float = SILENT_SECONDS, every: float = LOOK_SECONDS
    ) -> None:
        self._client = client
        self._queues = list(queues)
        self._silent = silent
        self._every = every
        self._due = 0.0

    def step(self) -> Reaped:
        """Look, if it is time."""
        if time.monotonic() < self._due:
            return Reaped()
        self._due = time.monotonic() + self._every
        return reap(self._client, self._queues, silent=self._silent)


def reap(client: redis.Redis, queues: Iterable[str], *, silent: float = SILENT_SECONDS) -> Reaped:
    """One bounded look; any number may look at once, and each message is moved by one of them.

    `queues` are those to search besides the ones that the workers say they serve.
    """
    stored: Any = client.hgetall(keys.CONSUMERS)
    registered = {name.decode(): _queues(raw) for name, raw in stored.items()}
    _unregister_the_gone(client, list(registered))
    known = sorted({keys.canonical(queue) for queue in queues}.union(*registered.values()))
    trim(client, known)
    found = run_script(client, "find_silent", [keys.HEARTBEATS, keys.WATCH], [int(silent * 1000), WATCHED])
    dead = [(found[i].decode(), found[i + 1].decode()) for i in range(0, len(found), 2)]
    done, put_back, buried, chunks = 0, 0, 0, CHUNKS
    for name, score in dead[:WORKED_OFF]:
        # Its own queues are told by itself; one that told none may be of plain Dramatiq.
        searched = [each for queue in known for each in (queue, dq_name(queue))]
        with client.pipeline(transaction=False) as pipe:
            for queue in searched:
                pipe.exists(keys.acks(name, queue))
            holding = [queue for queue, holds in zip(searched, pipe.execute(), strict=True) if holds]
        for queue in holding:
            back, dug, used = _take_back(client, name, score, queue, chunks)
            put_back, buried, chunks = put_back + back, buried + dug, chunks - used
        where = [keys.HEARTBEATS, keys.CONSUMERS, *(keys.acks(name, queue) for queue in searched)]
        done += int(run_script(client, "forget", where, [name, score]))
    if put_back or buried:
        emit("messages of dead workers put back", consumers=done, put_back=put_back, buried=buried)
    return Reaped(done, put_back, buried)


def _unregister_the_gone(client: redis.Redis, names: list[str]) -> None:
    if not names:
        return
    # A consumer beats before it registers, so one without a heartbeat has left.
    gone = [name for name, beat in zip(names, client.zmscore(keys.HEARTBEATS, names), strict=True) if beat is None]
    if gone:
        client.hdel(keys.CONSUMERS, *gone)


def _take_back(client: redis.Redis, name: str, score: str, queue: str, chunks: int) -> tuple[int, int, int]:
    """Work off one set of a dead consumer; messages put back, messages buried, scripts run."""
    put_back, buried, used = 0, 0, 0
    where = [keys.HEARTBEATS, keys.acks(name, queue), keys.waiting(queue), keys.messages(queue), keys.COUNTED]
    most, counter = DEATHS if counts(queue) else 0, field(RECOVERED, queue)
    while used < chunks:
        used += 1
        moved, *rest = run_script(client, "take_back", where, [name, score, CHUNK, most, counter])
        if moved < 0:
            break  # it was heard again: it lives
        left, *killers = rest
        put_back += moved
        for i in range(0, len(killers), 2):
            buried += _bury(client, name, queue, killers[i].decode(), killers[i + 1])
        if left <= len(killers) // 2:
            break
    return put_back, buried, used


def _bury(client: redis.Redis, name: str, queue: str, id_: str, raw: bytes) -> bool:
    message = read_message(raw)
    reason = f"quarantined: {DEATHS} workers died while they had it in hand"
    buried = Consumer(client, name, [queue]).bury(queue, id_, message, reason, field(QUARANTINED, queue))
    if buried:
        warn(
            "message moved to the dead letters: its worker died each time", queue=queue, deaths=DEATHS,
            actor=message.actor_name if message else None, id=message.message_id if message else id_,
        )  # fmt: skip
    return buried


def counts(queue: str) -> bool:
    """Whether a worker's death counts against the messages of a queue that it had in hand.

    Not against delayed ones, which it only held until their time. Not against tickets: a ticket
    carries nothing, the mail that killed the worker is found by the journal, and a buried ticket
    would only be issued again.
    """
    return not (queue.endswith(".DQ") or queue == "send" or queue.startswith("campaign_"))


def _queues(raw: bytes) -> list[str]:
    try:
        found = json.loads(raw)
    except ValueError:
        return []
    return [queue for queue in found if isinstance(queue, str)] if isinstance(found, list) else []
