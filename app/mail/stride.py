"""Which of several servers is next: in proportion to their weights, rather one with an open connection.

Stride scheduling (Waldspurger, Weihl 1995): whatever a server takes moves its mark on by mails / weight, the lowest
mark goes next. A server that was away, cooling down or at its limit, comes back where the others are, and has nothing
to catch up.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from app.mail.servers import Usable

#: So many mails may one server with weight 1 be ahead of the others before a connection to another is opened.
AFFINITY = 100


class Stride:
    """The marks of one sending thread. Not for several at once."""

    def __init__(self) -> None:
        self._marks: dict[int, float] = {}
        self._reached = 0.0

    def order(self, servers: Sequence[Usable], connected: Collection[int]) -> list[Usable]:
        """The servers, the one that is to go next first; of equal ones any."""

        def key(server: Usable) -> tuple[float, float]:
            near = AFFINITY / server.weight if server.id in connected else 0.0
            return self._mark(server.id) - near, random.random()  # noqa: S311 (chance, no secret)

        return sorted(servers, key=key) if len(servers) > 1 else list(servers)

    def sent(self, server: Usable, mails: int) -> None:
        """Note that a server has taken so many mails."""
        mark = self._mark(server.id)
        self._reached = max(self._reached, mark - AFFINITY / server.weight)
        self._marks[server.id] = mark + mails / server.weight

    def _mark(self, server_id: int) -> float:
        return max(self._marks.get(server_id, 0.0), self._reached)
