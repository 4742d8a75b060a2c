"""What the limiter's tests share: a virtual clock, a limiter on it, a record of the mails that went out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count

import redis

from app.mail.limits import Block, History, Limiter, Limits, Refusal
from app.mail.limits.days import day_starts

SECONDS = {"second": 1, "minute": 60, "hour": 3600}
#: 22 November 2026, 10:00 UTC, in µs.
NOW = 1_795_341_600_000_000
_servers = count(1)


def only(window: str, allowed: int) -> Limits:
    """A limit for this window and for no other."""
    of = {window: allowed}
    return Limits(of.get("second"), of.get("minute"), of.get("hour"), of.get("day"))


class NoHistory(History):
    """Of a server that has never sent anything."""

    def __init__(self) -> None:
        pass

    def attempts(self, server_id: int, since: int) -> list[tuple[int, int]]:
        return []

    def open_leases(self, server_id: int) -> list[str]:
        return []

    def still_open(self, leases: Sequence[str]) -> tuple[int, int]:
        return 0, 0


@dataclass
class Clock:
    """`true`: time as it passes, in µs. `skew`: what Redis's clock is wrong by."""

    true: int = NOW
    skew: int = 0

    def redis(self) -> int:
        return self.true + self.skew


@dataclass
class Held:
    """A block in hand and the instant (true time, µs) until which it may be used."""

    block: Block
    use_by: int


@dataclass
class Replay:
    """A server of its own on a virtual clock; `used` has (instant, mails)."""

    client: redis.Redis
    limits: Limits
    clock: Clock = field(default_factory=Clock)
    server_id: int = field(default_factory=lambda: next(_servers))
    used: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.client, NoHistory(), clock=self.clock.redis)
        # The second in which a server is counted for the first time is full.
        got = self.reserve(1)
        if isinstance(got, Held):
            self.limiter.give_back(got.block)
        self.clock.true += 1_100_000

    def reserve(self, wanted: int) -> Held | Refusal:
        return self._held(self.limiter.reserve(self.server_id, "one", self.limits, wanted))

    def exchange(self, held: Held, wanted: int) -> Held | Refusal:
        return self._held(self.limiter.exchange(held.block, wanted))

    def use(self, held: Held, mails: int) -> None:
        assert self.clock.true <= held.use_by
        assert mails <= held.block.left
        held.block.left -= mails
        self.used.append((self.clock.true, mails))

    def _held(self, got: Block | Refusal) -> Held | Refusal:
        if isinstance(got, Refusal):
            return got
        use = round(got.request.use_seconds * 1_000_000)
        if self.limits.per_day is not None:
            use = min(use, day_starts(self.limits.timezone, self.clock.redis() // 1000)[2] * 1000 - self.clock.redis())
        return Held(got, self.clock.true + use)


def most_in_any(used: Sequence[tuple[int, int]], length: int) -> int:
    """The most mails that were used in any window of so many µs, both its ends included."""
    used = sorted(used)
    times = [at for at, _ in used]
    sums = [0, *accumulate(mails for _, mails in used)]
    return max((sums[bisect_right(times, at + length)] - sums[bisect_left(times, at)] for at in times), default=0)
