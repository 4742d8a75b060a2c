"""How soon mails are out under a limit, replayed on a virtual clock: our windows beside GCRA, which spreads them."""

from __future__ import annotations

from collections.abc import Callable

import redis

from app.mail.limits import Limiter, Limits, Refusal
from bench import table
from bench.table import Figure
from tests.limiting import NOW, NoHistory

HOUR = 3_600_000_000
#: Mails a second of the sender in the replayed campaign, and how many it asks for at once.
SPEED = 5000
BLOCK = 100
USE_BAR = 0.98
HOURS = 100

#: Asks at an instant in µs for so many mails: how many may go, and when to come again if none may.
Asker = Callable[[int, int], tuple[int, int]]


def replayed(client: redis.Redis) -> list[Figure]:
    """A campaign smaller than the limit, and callers that want everything for days."""
    return [
        table.figure(
            "5,000 mails under 10,000 an hour: out after", [campaign(windows(client, -1, 10_000), 5000)], unit="s",
            bar=None, details=f"GCRA {campaign(gcra(10_000), 5000):,.0f} s; {SPEED:,} mails/s where they may",
        ),
        table.figure(
            "use of 1,000 an hour by who wants everything", [greedy(windows(client, -2, 1000)) / 1000], bar=USE_BAR,
            details=f"GCRA {greedy(gcra(1000)) / 1000:.3f}; {HOURS} hours",
        ),
    ]  # fmt: skip


def windows(client: redis.Redis, server_id: int, per_hour: int) -> Asker:
    """The limiter as it is."""
    at = NOW
    limiter = Limiter(client, NoHistory(), clock=lambda: at)

    def ask(now: int, wanted: int) -> tuple[int, int]:
        nonlocal at
        at = NOW + now
        found = limiter.reserve(server_id, "replayed", Limits(per_hour=per_hour), wanted)
        return (0, found.free_at * 1000 - NOW) if isinstance(found, Refusal) else (found.left, now)

    return ask


def gcra(per_hour: int) -> Asker:
    """The generic cell rate algorithm: a burst of 2 % at once, the rest evenly, so that no hour has more."""
    burst = max(1, per_hour // 50)
    apart = HOUR / (per_hour - burst)
    arrival = 0.0

    def ask(now: int, wanted: int) -> tuple[int, int]:
        nonlocal arrival
        arrival = max(arrival, now)
        free = int((now + burst * apart - arrival) / apart + 1e-9)
        if free < 1:
            return 0, int(arrival + apart - burst * apart) + 1
        arrival += min(free, wanted) * apart
        return min(free, wanted), now

    return ask


def campaign(ask: Asker, mails: int) -> float:
    """Seconds until the last of so many mails is out."""
    now = 0
    while mails:
        got, again = ask(now, min(BLOCK, mails))
        mails -= got
        now = max(now + got * 1_000_000 // SPEED, again)
    return now / 1e6


def greedy(ask: Asker) -> float:
    """Mails an hour of somebody who takes whatever is free."""
    now = sent = 0
    while now < HOURS * HOUR:
        got, again = ask(now, BLOCK)
        sent += got
        now = max(now, again)
    return sent / HOURS
