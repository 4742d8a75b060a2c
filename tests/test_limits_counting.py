"""A Redis that lost its data: tokens are counted again from the database, once, and never too few."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

import peewee
import pytest
import redis

from app.config import ROOT
from app.db import Db
from app.mail.limits import Block, DomainRule, History, Limiter, Limits, Refusal, Request
from app.mail.limits import keys as names
from app.mail.limits.counting import LOCK_MS, PATIENCE
from tests.limiting import NOW, Clock
from tests.working import eventually

ONE, MINUTE, HOUR = 1, 60_000_000, 3_600_000_000
#: 10:00 UTC is 18:00 there.
SHANGHAI = "Asia/Shanghai"
COUNTING = "limits of server one are being counted again"


@pytest.fixture
def client(redis_server: str) -> redis.Redis:
    client = redis.Redis.from_url(redis_server)
    client.flushall()
    return client


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW + 20_000_000)


@pytest.fixture
def limiter(client: redis.Redis, db: Db, clock: Clock) -> Limiter:
    return Limiter(client, History(db), clock=clock.redis)


def tried(db: Db, at: int, attempts: int, *, server: int = ONE, campaign: int = 1) -> None:
    db.run(
        "INSERT INTO deliveries (server_id, minute, campaign_id, attempts) VALUES (?, ?, ?, ?)",
        server, at // MINUTE, campaign, attempts,
    )  # fmt: skip


def lease(db: Db, number: int, pending: int, *, campaign: int = 1, servers: Sequence[int] = (ONE,)) -> None:
    for server in servers:
        if not db.value("SELECT 1 FROM campaign_servers WHERE campaign_id = ? AND server_id = ?", campaign, server):
            db.run("INSERT INTO campaign_servers (campaign_id, server_id) VALUES (?, ?)", campaign, server)
    db.run(
        "INSERT INTO batches (campaign_id, number, state, ready_at, token, pending) VALUES (?, ?, 'leased', 0, ?, ?)",
        campaign, number, f"{campaign}-{number}", pending,
    )  # fmt: skip


def end(db: Db, number: int, *, campaign: int = 1) -> None:
    db.run("UPDATE batches SET state = 'done', pending = 0 WHERE campaign_id = ? AND number = ?", campaign, number)


def reserve(limiter: Limiter, limits: Limits, wanted: int = 10_000) -> Block | Refusal:
    return limiter.reserve(ONE, "one", limits, wanted)


def granted(limiter: Limiter, limits: Limits, wanted: int = 10_000) -> int:
    """How many tokens one gets, 0 for a refusal by the limit itself; takes them."""
    got = reserve(limiter, limits, wanted)
    if isinstance(got, Refusal):
        assert "limit of server one" in got.reason
        return 0
    return got.left


def test_the_day_limit_holds_after_a_flush_in_mid_day(
    client: redis.Redis, db: Db, clock: Clock, limiter: Limiter
) -> None:
    limits = Limits(per_day=1000, timezone=SHANGHAI)
    assert granted(limiter, limits, 400) == 400
    # Yesterday in Shanghai ended at 16:00 UTC, 18 hours ago.
    tried(db, clock.true - 18 * HOUR - MINUTE, 5000)
    tried(db, clock.true - 18 * HOUR, 100)
    tried(db, clock.true - 3 * HOUR, 200, campaign=2)
    tried(db, clock.true, 100)
    tried(db, clock.true, 7777, server=2)
    client.flushall()
    assert granted(limiter, limits) == 600
    refused = reserve(limiter, limits)
    assert refused == Refusal((NOW + 6 * HOUR) // 1000, "day limit of server one")


def test_each_window_counts_the_minutes_that_may_be_in_it(db: Db, clock: Clock, limiter: Limiter) -> None:
    # It is 20 s past the minute; nobody knows in which of its seconds a mail was tried.
    for minutes, attempts in ((0, 1), (1, 2), (2, 4), (59, 8), (60, 16), (61, 32), (62, 64)):
        tried(db, clock.true - minutes * MINUTE, attempts)
    assert granted(limiter, Limits(per_minute=103)) == 100
    used = limiter.peek([Request(ONE, "one", Limits(per_minute=103))])[ONE].used
    assert used["minute"] == 103
    assert used["hour"] == 100 + 1 + 2 + 4 + 8 + 16
    # The minute before this one ended 20 s ago.
    clock.true += 41_300_000
    assert granted(limiter, Limits(per_minute=103), 5) == 2


def test_for_a_second_after_a_loss_a_limit_by_the_second_is_full(
    db: Db, clock: Clock, limiter: Limiter, client: redis.Redis
) -> None:
    limits = Limits(per_second=50)
    refused = reserve(limiter, limits)
    assert isinstance(refused, Refusal)
    assert refused.reason == "second limit of server one"
    assert 1000 <= refused.free_at - clock.true // 1000 <= 1020
    clock.true = refused.free_at * 1000
    assert granted(limiter, limits) == 50


def test_open_leases_are_waited_for(client: redis.Redis, db: Db, clock: Clock, limiter: Limiter) -> None:
    limits = Limits(per_hour=1000)
    lease(db, 1, 100)
    lease(db, 2, 100)
    lease(db, 1, 100, campaign=2, servers=[2])
    assert reserve(limiter, limits) == Refusal(clock.true // 1000 + 250, COUNTING)
    # One that begins now holds no tokens of before.
    lease(db, 3, 100)
    clock.true += 1_000_000
    end(db, 1)
    tried(db, clock.true, 60)
    assert reserve(limiter, limits) == Refusal(clock.true // 1000 + 250, COUNTING)
    clock.true += 1_000_000
    end(db, 2)
    tried(db, clock.true, 70, campaign=2)
    assert granted(limiter, limits) == 870


def test_but_not_for_longer_than_five_seconds(db: Db, clock: Clock, limiter: Limiter) -> None:
    limits = Limits(per_minute=1000, per_day=5000)
    lease(db, 1, 100)
    lease(db, 2, 70)
    tried(db, clock.true, 10)
    assert isinstance(reserve(limiter, limits), Refusal)
    clock.true += PATIENCE - 1
    end(db, 2)
    assert reserve(limiter, limits) == Refusal(clock.true // 1000 + 250, COUNTING)
    clock.true += 1
    # The mails of the lease that is open still count as tried.
    assert granted(limiter, limits) == 1000 - 10 - 100
    used = limiter.peek([Request(ONE, "one", limits)])[ONE].used
    assert used["day"] == 1000


def test_a_lease_that_ends_while_it_is_counted_is_not_missed(client: redis.Redis, db: Db, clock: Clock) -> None:
    class EndsInBetween(History):
        def attempts(self, server_id: int, since: int) -> list[tuple[int, int]]:
            end(db, 1)
            tried(db, clock.true, 100)
            return super().attempts(server_id, since)

    limiter = Limiter(client, EndsInBetween(db), clock=clock.redis)
    lease(db, 1, 100)
    assert isinstance(reserve(limiter, Limits(per_hour=1000)), Refusal)
    clock.true += PATIENCE
    # Counted twice, rather than not at all.
    assert granted(limiter, Limits(per_hour=1000)) == 800


def test_of_two_who_count_at_once_one_does(
    client: redis.Redis, db: Db, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.mail.limits.counting.LOCK_MS", 60_000)
    inside, go = threading.Event(), threading.Event()

    class Slow(History):
        def attempts(self, server_id: int, since: int) -> list[tuple[int, int]]:
            inside.set()
            assert go.wait(20)
            return super().attempts(server_id, since)

    tried(db, clock.true, 300)
    slow, other = (Limiter(client, kind(db), clock=clock.redis) for kind in (Slow, History))
    got: list[int] = []

    def count_slowly() -> None:
        got.append(granted(slow, Limits(per_hour=1000), 200))
        db.close()

    first = threading.Thread(target=count_slowly)
    first.start()
    assert inside.wait(20)
    try:
        assert reserve(other, Limits(per_hour=1000)) == Refusal(clock.true // 1000 + 250, COUNTING)
    finally:
        go.set()
        first.join(20)
    assert got == [200]
    assert granted(other, Limits(per_hour=1000)) == 500


def test_who_takes_longer_than_the_lock_lasts_overwrites_nothing(client: redis.Redis, db: Db, clock: Clock) -> None:
    class Overtaken(History):
        def attempts(self, server_id: int, since: int) -> list[tuple[int, int]]:
            found = super().attempts(server_id, since)
            client.delete(names.counting(server_id))
            assert granted(Limiter(client, History(db), clock=clock.redis), Limits(per_hour=1000), 300) == 300
            return found

    tried(db, clock.true, 100)
    limiter = Limiter(client, Overtaken(db), clock=clock.redis)
    assert reserve(limiter, Limits(per_hour=1000)) == Refusal(clock.true // 1000 + 250, COUNTING)
    assert granted(limiter, Limits(per_hour=1000)) == 600


def test_who_dies_while_counting_is_replaced(client: redis.Redis, redis_server: str, db: Db, clock: Clock) -> None:
    program = f"""
import os, signal, redis
from app.mail.limits import History, Limiter, Limits
from app.mail.limits import counting

class Dies(History):
    def __init__(self): pass
    def open_leases(self, server_id): os.kill(os.getpid(), signal.SIGKILL)

counting.LOCK_MS = 5_000
Limiter(redis.Redis.from_url({redis_server!r}), Dies()).reserve({ONE}, "one", Limits(per_hour=1000), 1)
"""
    dead = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert dead.returncode == -signal.SIGKILL
    assert client.exists(names.counting(ONE))
    assert LOCK_MS <= 5_000
    limiter = Limiter(client, History(db), clock=clock.redis)
    eventually(lambda: isinstance(reserve(limiter, Limits(per_hour=1000), 1), Block), "somebody else counts")


def test_a_database_that_is_away_is_a_refusal(client: redis.Redis, db: Db, clock: Clock) -> None:
    class Locked(History):
        def open_leases(self, server_id: int) -> list[str]:
            raise peewee.OperationalError("database is locked")

    limiter = Limiter(client, Locked(db), clock=clock.redis)
    assert reserve(limiter, Limits(per_hour=10)) == Refusal(clock.true // 1000 + 250, COUNTING)
    assert granted(Limiter(client, History(db), clock=clock.redis), Limits(per_hour=10)) == 10


def test_a_domain_without_counters_is_thought_to_have_had_every_mail(db: Db, clock: Clock, limiter: Limiter) -> None:
    tried(db, clock.true - 30 * MINUTE, 300)
    tried(db, clock.true - 5 * MINUTE, 200)
    known = DomainRule("gmail.com", Limits(per_hour=600))
    new = DomainRule("qq.com", Limits(per_hour=600), since=(clock.true - 10 * MINUTE) // 1000)
    for rule, expected in ((known, 100), (new, 400)):
        got = limiter.reserve_domain(ONE, "one", rule, "UTC", 10_000)
        assert isinstance(got, Block)
        assert got.left == expected


def test_a_domain_keeps_its_limit_when_its_server_is_counted_by_an_earlier_clock(
    db: Db, clock: Clock, limiter: Limiter
) -> None:
    rule = DomainRule("gmail.com", Limits(per_hour=100))
    for campaign in range(3):
        # The database's hosts keep the right time, Redis's does not.
        assert isinstance(limiter.reserve_domain(ONE, "one", rule, "UTC", 20), Block)
        tried(db, clock.true, 20, campaign=campaign)
        clock.true += 1_000_000
        clock.skew -= 2 * HOUR
        assert isinstance(limiter.reserve_domain(ONE, "one", rule, "UTC", 1), Block)
        tried(db, clock.true, 1, campaign=10 + campaign)
        limiter.forget(ONE)
    got = limiter.reserve_domain(ONE, "one", rule, "UTC", 1000)
    assert isinstance(got, Block)
    assert got.left == 100 - 63
    assert isinstance(limiter.reserve_domain(ONE, "one", rule, "UTC", 1), Refusal)


def test_a_server_that_gets_limits_knows_what_it_sent_without(db: Db, clock: Clock, limiter: Limiter) -> None:
    rule = DomainRule("gmail.com", Limits(per_hour=600))
    assert isinstance(limiter.reserve_domain(ONE, "one", rule, "UTC", 1), Block)
    # Redis knows of the server because of the domain, and not what it sent to others.
    clock.true += HOUR
    tried(db, clock.true, 900)
    assert granted(limiter, Limits(per_day=1000)) == 100
    # One that had limits, then none for a while, is told to be forgotten.
    tried(db, clock.true + MINUTE, 40)
    clock.true += MINUTE
    limiter.forget(ONE)
    assert granted(limiter, Limits(per_day=1000)) == 60


def test_peeking_shows_what_the_database_knows(db: Db, clock: Clock, limiter: Limiter) -> None:
    tried(db, clock.true - 2 * HOUR, 100)
    tried(db, clock.true - 30 * MINUTE, 10)
    tried(db, clock.true, 1)
    unlimited, limited, full = Limits(), Limits(per_day=112), Limits(per_hour=11, per_day=111, timezone=SHANGHAI)
    for limits in (unlimited, limited, full):
        usage = limiter.peek([Request(ONE, "one", limits)])[ONE]
        assert usage.used == {"second": 0, "minute": 1, "hour": 11, "day": 111}
        assert usage.can_send is (limits is not full)
    assert (usage.blocked_by, usage.free_at) == ("day limit of server one", (NOW + 6 * HOUR) // 1000)
    hourly = limiter.peek([Request(ONE, "one", Limits(per_hour=11))])[ONE]
    assert hourly.free_at == (NOW + 31 * MINUTE) // 1000
