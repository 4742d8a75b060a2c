"""Slots of servers that take only so many connections."""

from __future__ import annotations

import time

import pytest
import redis

from app.mail.limits import Connections, connection_limit
from app.mail.limits import keys as names
from app.mail.limits.connections import EXPIRE_SECONDS

ONE, OTHER = 1, 2


@pytest.fixture
def client(redis_server: str) -> redis.Redis:
    client = redis.Redis.from_url(redis_server)
    client.flushall()
    return client


def test_all_processes_together_get_so_many_and_no_more(client: redis.Redis) -> None:
    here, there = Connections(client), Connections(client)
    assert [here.take(ONE, 3, f"here-{number}") for number in range(2)] == [True, True]
    assert [there.take(ONE, 3, f"there-{number}") for number in range(2)] == [True, False]
    assert there.take(OTHER, 3, "there-1"), "another server's are its own"
    assert here.take(ONE, 3, "here-0"), "it has one already"
    here.release("here-0")
    here.release("here-0")
    assert there.take(ONE, 3, "there-2")
    assert not there.take(ONE, 3, "there-3")
    assert connection_limit("one") == "connection limit of server one"


def test_a_lowered_limit_closes_no_connection_and_opens_none(client: redis.Redis) -> None:
    slots = Connections(client)
    assert all(slots.take(ONE, 5, f"c{number}") for number in range(5))
    slots.release("c0")
    assert not slots.take(ONE, 2, "new")
    assert slots.renew([f"c{number}" for number in range(1, 5)]) == set()


def test_a_slot_lasts_as_long_as_it_is_renewed(client: redis.Redis) -> None:
    slots, others = Connections(client), Connections(client)
    assert slots.take(ONE, 1, "mine")
    key = names.connections(ONE)
    left = float(client.zscore(key, "mine") or 0) - time.time() * 1000
    assert EXPIRE_SECONDS - 5 < left / 1000 <= EXPIRE_SECONDS
    client.zadd(key, {"mine": time.time() * 1000 + 2000})
    assert slots.renew(["mine", "never taken"]) == set()
    assert not others.take(ONE, 1, "theirs")
    # Its holder was away for too long.
    client.zadd(key, {"mine": time.time() * 1000 - 1})
    assert others.take(ONE, 1, "theirs")
    assert slots.renew(["mine"]) == {"mine"}
    slots.release("mine")
    assert client.zrange(key, 0, -1) == [b"theirs"]


def test_after_redis_lost_its_data_those_who_renew_have_their_slots_again(client: redis.Redis) -> None:
    slots, others = Connections(client), Connections(client)
    assert slots.take(ONE, 2, "a")
    assert slots.take(ONE, 2, "b")
    client.flushall()
    assert slots.renew(["a", "b"]) == set()
    assert not others.take(ONE, 2, "c")


def test_a_clock_set_back_does_not_keep_the_slots_of_the_dead(client: redis.Redis) -> None:
    key = names.connections(ONE)
    client.zadd(key, {"dead": time.time() * 1000 + 3_600_000})
    assert not Connections(client).take(ONE, 1, "new")
    assert float(client.zscore(key, "dead") or 0) <= time.time() * 1000 + EXPIRE_SECONDS * 1000


def test_nothing_is_left_of_a_server_that_is_gone(client: redis.Redis) -> None:
    slots = Connections(client)
    assert slots.take(ONE, 1, "mine")
    assert 0 < client.ttl(names.connections(ONE)) <= 2 * EXPIRE_SECONDS
    slots.release("mine")
    assert client.exists(names.connections(ONE)) == 0
