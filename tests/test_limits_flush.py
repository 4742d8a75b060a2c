"""Workers with leases and tokens, whose Redis loses everything now and then: no window has too many, all the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.db import Db
from app.mail.limits import Block, History, Limiter, Limits, Refusal
from tests.limiting import NOW, SECONDS, Clock, most_in_any

MINUTE = 60_000_000
BATCH = 60
_ids = count(1)

limits = st.sampled_from(
    [
        Limits(per_second=20), Limits(per_minute=50), Limits(per_minute=200, per_hour=400), Limits(per_hour=150),
        Limits(per_second=30, per_minute=100, per_day=500), Limits(per_day=200, timezone="Asia/Kathmandu"),
    ]
)  # fmt: skip
#: Who (of four workers), what, and how long after the last step, in µs: mostly a moment, at times hours.
steps = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from(["send", "send", "insist", "end", "flush"]),
        st.integers(0, 20_000) | st.integers(0, 40).flatmap(lambda power: st.integers(0, round(1.7**power))),
    ),
    min_size=20, max_size=70,
)  # fmt: skip


@dataclass
class Worker:
    """One at a time: a lease, tokens, mails. What it has tried is in the database when the lease ends, not before."""

    world: World
    lease: int | None = None
    block: Block | None = None
    use_by: int = 0
    tried: list[tuple[int, int]] = field(default_factory=list)

    def send(self) -> None:
        """Use what is in hand, up to the last moment; then reserve more."""
        clock = self.world.clock
        if self.lease is None:
            self.lease = self.world.lease()
        left = BATCH - sum(mails for _, mails in self.tried)
        if self.block and clock.true <= self.use_by and left:
            mails = min(left, self.block.left)
            self.block.left -= mails
            self.tried.append((clock.true, mails))
            self.world.used.append((clock.true, mails))
        if self.block:
            self.world.limiter.give_back(self.block)
        got = self.world.reserve(left)
        if isinstance(got, Refusal):
            self.end()
            return
        self.block, self.use_by = got, clock.true + round(got.request.use_seconds * 1_000_000)

    def insist(self) -> None:
        """Send, and be told to come again in a moment, until there is something in hand."""
        for _ in range(25):
            self.send()
            if self.block:
                break
            self.world.clock.true += 250_000

    def end(self) -> None:
        if self.block:
            self.world.limiter.give_back(self.block)
        if self.lease is not None:
            self.world.end(self.lease, self.tried)
        self.lease, self.block, self.tried = None, None, []


@dataclass
class World:
    db: Db
    client: redis.Redis
    limits: Limits
    clock: Clock = field(default_factory=lambda: Clock(NOW))
    id: int = field(default_factory=lambda: next(_ids))
    used: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.client, History(self.db), clock=self.clock.redis)
        self.db.run("INSERT INTO campaign_servers (campaign_id, server_id) VALUES (?, ?)", self.id, self.id)
        self._batch = 0

    def reserve(self, wanted: int) -> Block | Refusal:
        return self.limiter.reserve(self.id, "one", self.limits, max(1, wanted))

    def lease(self) -> int:
        self._batch += 1
        self.db.run(
            "INSERT INTO batches (campaign_id, number, state, ready_at, token, pending) "
            "VALUES (?, ?, 'leased', 0, ?, ?)",
            self.id, self._batch, f"{self.id}-{self._batch}", BATCH,
        )  # fmt: skip
        return self._batch

    def end(self, number: int, tried: list[tuple[int, int]]) -> None:
        """The transaction of the outcomes: what was tried, and the end of the lease."""
        with self.db.transaction():
            self.db.run("UPDATE batches SET state = 'ready' WHERE campaign_id = ? AND number = ?", self.id, number)
            for at, mails in tried:
                row = (self.id, at // MINUTE, self.id)
                where = "WHERE server_id = ? AND minute = ? AND campaign_id = ?"
                if self.db.run(f"UPDATE deliveries SET attempts = attempts + ? {where}", mails, *row) == 0:
                    self.db.run(
                        "INSERT INTO deliveries (server_id, minute, campaign_id, attempts) VALUES (?, ?, ?, ?)",
                        *row, mails,
                    )  # fmt: skip

    def most_in_a_day(self) -> int:
        days: dict[object, int] = {}
        east = timedelta(hours=5, minutes=45) if "Kathmandu" in self.limits.timezone else timedelta()
        for at, mails in self.used:
            day = (datetime.fromtimestamp(at / 1e6, UTC) + east).date()
            days[day] = days.get(day, 0) + mails
        return max(days.values(), default=0)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limits=limits, doing=steps)
def test_no_window_has_more_than_its_limit_though_redis_is_flushed(
    db: Db, redis_server: str, limits: Limits, doing: list[tuple[int, str, int]]
) -> None:
    client = redis.Redis.from_url(redis_server)
    world = World(db, client, limits)
    workers = [Worker(world) for _ in range(4)]
    for who, what, after in doing:
        world.clock.true += after
        if what == "flush":
            client.flushall()
        else:
            getattr(workers[who], what)()
    for window, allowed in limits:
        if allowed is not None:
            most = most_in_any(world.used, SECONDS[window] * 1_000_000) if window in SECONDS else world.most_in_a_day()
            assert most <= allowed, window


@pytest.mark.parametrize("leases_end", [True, False])
def test_sending_goes_on_soon_after_a_flush(db: Db, redis_server: str, leases_end: bool) -> None:
    client = redis.Redis.from_url(redis_server)
    world = World(db, client, Limits(per_hour=1000))
    workers = [Worker(world) for _ in range(4)]
    for _ in range(8):
        for worker in workers:
            worker.send()
        world.clock.true += 1_000_000
    assert sum(mails for _, mails in world.used) >= 4 * BATCH
    client.flushall()
    flushed = world.clock.true
    while isinstance(world.reserve(1), Refusal):
        for worker in workers if leases_end else ():
            worker.end()
        world.clock.true += 250_000
        assert world.clock.true < flushed + 5_500_000
    assert (world.clock.true - flushed <= 500_000) is leases_end
