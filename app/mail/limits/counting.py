"""Count a server's tokens from the database, once, when Redis knows nothing of it: the first time, or after a loss.

Who holds a lease may still be using tokens of before, and its attempts reach the database only when the lease ends.
So the open leases are noted first; when all of those have ended, or after 5 seconds, the attempts recorded are
counted, and every mail of a noted lease that is still open as if it had been tried. That can be too many for a
while, never too few.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import redis

from app.mail.limits import keys
from app.mail.limits.history import History
from app.mail.limits.scripts import script

#: Who counts and dies is replaced after so long, in ms.
LOCK_MS = 5_000
#: How long the end of the noted leases is waited for, in µs.
PATIENCE = 5_000_000
NOTED_MS = 60_000
#: How far back the attempts are read, in minutes: a day of 25 hours, and one more.
BACK = 26 * 60
MINUTE = 60_000_000


class Counting:
    """Safe to share between threads. `clock`: µs since 1970 in place of Redis's own time."""

    def __init__(self, client: redis.Redis, history: History, clock: Callable[[], int] | None) -> None:
        self._client = client
        self._history = history
        self._clock = clock
        self._count = script(client, "count")
        self._unlock = script(client, "unlock")

    def count(self, server_id: int) -> bool:
        """Whether the server has been counted just now; False: it is too early, or somebody else is at it.

        Raises RedisError and what the database raises.
        """
        lock, token = keys.counting(server_id), secrets.token_hex(16)
        if not self._client.set(lock, token, nx=True, px=LOCK_MS):
            return False
        try:
            return self._try(server_id, token)
        finally:
            self._unlock(keys=[lock], args=[token])

    def _try(self, server_id: int, token: str) -> bool:
        now = self._now()
        stored: Any = self._client.get(keys.noted(server_id))
        noted: Any = json.loads(stored) if stored else self._note(server_id, now)
        # In this order: a lease that ends in between is counted twice, not missed.
        still, pending = self._history.still_open(noted["leases"])
        if still and now - noted["at"] < PATIENCE:
            return False
        past = self._history.attempts(server_id, now // MINUTE - BACK)
        text = " ".join(f"{minute} {attempts}" for minute, attempts in past)
        done = self._count(
            keys=[keys.of_server(server_id), keys.counting(server_id), keys.noted(server_id)],
            args=[self._clock() if self._clock else "", token, secrets.token_hex(16), text, pending, noted["at"]],
        )
        return bool(done)

    def _note(self, server_id: int, now: int) -> dict[str, Any]:
        noted = {"at": now, "leases": self._history.open_leases(server_id)}
        self._client.set(keys.noted(server_id), json.dumps(noted), px=NOTED_MS)
        return noted

    def _now(self) -> int:
        if self._clock:
            return self._clock()
        seconds, rest = self._client.time()
        return int(seconds) * 1_000_000 + int(rest)
