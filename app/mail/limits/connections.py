"""How many connections to a server are open, over all workers and hosts."""

from __future__ import annotations

import threading
from collections.abc import Collection

import redis

from app.errors import LimitsUnavailable
from app.events import warn
from app.mail.limits import keys
from app.mail.limits.scripts import script

#: A slot that nobody renews is free again after so many seconds: its holder is dead.
EXPIRE_SECONDS = 30


def connection_limit(name: str) -> str:
    """The reason to tell when `take` says no."""
    return f"connection limit of server {name}"


class Connections:
    """Slots of servers with `max_connections`. Safe to share between threads.

    `holder` names one connection, different on all hosts. `take` and `renew` raise LimitsUnavailable when Redis
    does not answer.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._script = script(client, "connections")
        self._lock = threading.Lock()
        self._held: dict[str, tuple[int, int]] = {}

    def take(self, server_id: int, max_connections: int | None, holder: str) -> bool:
        """Take a slot before connecting; False when all are taken. None: no limit, and no Redis needed."""
        if max_connections is None:
            return True
        if self._without(server_id, max_connections, [holder]):
            return False
        with self._lock:
            self._held[holder] = (server_id, max_connections)
        return True

    def renew(self, holders: Collection[str]) -> set[str]:
        """Keep the slots that this process took; those of `holders` that others have taken meanwhile.

        To be called about once a second: should Redis lose its data, others learn only from this which
        connections there are.
        """
        with self._lock:
            held = {holder: self._held[holder] for holder in holders if holder in self._held}
        lost: set[str] = set()
        for server in set(held.values()):
            lost |= self._without(*server, [holder for holder, own in held.items() if own == server])
        with self._lock:
            for holder in lost:
                self._held.pop(holder, None)
        return lost

    def release(self, holder: str) -> None:
        """Give a slot back after hanging up. Does not raise: what Redis does not hear of expires."""
        with self._lock:
            held = self._held.pop(holder, None)
        if held is None:
            return
        try:
            self._client.zrem(keys.connections(held[0]), holder)
        except redis.RedisError as error:
            warn("connection slot not given back", server_id=held[0], reason=str(error))

    def _without(self, server_id: int, limit: int, holders: Collection[str]) -> set[str]:
        try:
            without = self._script(keys=[keys.connections(server_id)], args=[limit, EXPIRE_SECONDS * 1000, *holders])
        except redis.RedisError as error:
            raise LimitsUnavailable from error
        return {holder.decode() for holder in without}
