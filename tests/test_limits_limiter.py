"""Tokens given back, exchanged and looked at; limits that change; what is left in Redis, and a Redis that is away."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import redis

from app.clock import since_boot
from app.errors import LimitsUnavailable
from app.mail.limits import UNLIMITED, Block, DomainRule, Limiter, Limits, Refusal, Request
from app.mail.limits import keys as names
from app.queues.broker import redis_client
from tests.limiting import Held, NoHistory, Replay
from tests.working import MortalRedis

FULL = Limits(1000, 10_000, 100_000, 1_000_000)


@pytest.fixture
def client(redis_server: str) -> redis.Redis:
    return redis.Redis.from_url(redis_server)


def held(replay: Replay, wanted: int) -> Held:
    got = replay.reserve(wanted)
    assert isinstance(got, Held)
    return got


def used(replay: Replay) -> dict[str, int]:
    return replay.limiter.peek([Request(replay.server_id, "one", replay.limits)])[replay.server_id].used


def all_windows(tokens: int) -> dict[str, int]:
    return dict.fromkeys(("second", "minute", "hour", "day"), tokens)


def test_what_is_given_back_is_free_at_once_in_every_window(client: redis.Redis) -> None:
    replay = Replay(client, FULL)
    first, second = held(replay, 100), held(replay, 50)
    assert used(replay) == all_windows(150)
    first.block.left -= 30
    replay.limiter.give_back(first.block)
    assert used(replay) == all_windows(80)
    assert first.block.left == 0
    replay.limiter.give_back(first.block)
    assert used(replay) == all_windows(80)
    replay.limiter.give_back(second.block)
    assert used(replay) == all_windows(30)


def test_what_is_given_back_late_counts_in_no_window_twice(client: redis.Redis) -> None:
    replay = Replay(client, FULL)
    old = held(replay, 100)
    replay.clock.true += 5_000_000
    held(replay, 10)
    replay.limiter.give_back(old.block)
    assert used(replay) == all_windows(10)
    replay.clock.true += 2 * 3_700_000_000
    held(replay, 7)
    assert used(replay) == {"second": 7, "minute": 7, "hour": 7, "day": 17}


def test_tokens_of_a_redis_that_lost_its_data_are_not_given_back(client: redis.Redis) -> None:
    replay = Replay(client, FULL)
    old = held(replay, 100)
    client.delete(names.of_server(replay.server_id))
    assert isinstance(replay.reserve(1), Refusal), "the second in which it was counted again is full"
    replay.clock.true += 1_100_000
    held(replay, 40)
    replay.limiter.give_back(old.block)
    assert used(replay) == all_windows(40)


def test_an_expired_block_is_exchanged_for_a_fresh_one_even_if_nothing_else_is_free(client: redis.Redis) -> None:
    replay = Replay(client, Limits(per_second=10, per_minute=100))
    old = held(replay, 10)
    old.block.left -= 3
    replay.clock.true = old.use_by + 50_000
    assert isinstance(replay.reserve(1), Refusal)
    new = replay.exchange(old, 50)
    assert isinstance(new, Held)
    assert (new.block.left, old.block.left) == (7, 0)
    assert new.use_by > replay.clock.true
    assert used(replay)["second"] == 10


def test_exchanging_never_asks_the_database(client: redis.Redis) -> None:
    replay = Replay(client, FULL)
    old = held(replay, 10)
    client.delete(names.of_server(replay.server_id))
    refused = replay.exchange(old, 10)
    assert isinstance(refused, Refusal)
    assert refused.reason == "limits of server one are being counted again"
    assert refused.free_at == replay.clock.true // 1000 + 250
    assert client.exists(names.of_server(replay.server_id)) == 0


def test_a_server_without_limits_needs_no_redis(tmp_path: Path) -> None:
    limiter = Limiter(redis.Redis(unix_socket_path=str(tmp_path / "nobody")), NoHistory())
    block = limiter.reserve(1, "one", Limits(), 100)
    assert isinstance(block, Block)
    assert all(block.take() for _ in range(1000))
    assert (block.left, block.expired) == (UNLIMITED, False)
    assert limiter.exchange(block, 100) is block
    limiter.give_back(block)
    assert limiter.connections.take(1, None, "somebody")
    assert limiter.peek([Request(1, "one", Limits())])[1].can_send


def test_tokens_expire_by_the_clock_of_this_machine(client: redis.Redis) -> None:
    limiter = Limiter(client, NoHistory())
    before = since_boot()
    block = limiter.reserve(10_001, "one", Limits(per_minute=1000), 10)
    assert isinstance(block, Block)
    # 1.5 % of a minute, from before the question.
    assert before + 0.9 <= block.use_by <= since_boot() + 0.9
    assert not block.expired
    block.use_by = since_boot()
    assert block.expired
    assert block.take(), "whether it has expired is asked when the content goes"
    assert block.left == 9
    block.put_back()
    assert block.left == 10


def test_other_limits_count_at_the_next_call_and_nothing_is_forgotten(client: redis.Redis) -> None:
    replay = Replay(client, Limits(per_minute=100))
    held(replay, 60)
    replay.limits = Limits(per_minute=50)
    lowered = replay.reserve(1)
    assert isinstance(lowered, Refusal)
    assert lowered.reason == "minute limit of server one"
    replay.limits = Limits(per_minute=200)
    assert held(replay, 500).block.left == 140
    # A limit of another kind knows the mails of before, too.
    replay.limits = Limits(per_minute=500, per_hour=220, per_day=10_000)
    assert held(replay, 500).block.left == 20
    blocked = replay.reserve(500)
    assert isinstance(blocked, Refusal)
    assert blocked.reason == "hour limit of server one"


def test_the_window_that_frees_last_is_the_reason(client: redis.Redis) -> None:
    replay = Replay(client, Limits(per_second=10, per_minute=10, per_hour=1000))
    held(replay, 10)
    refused = replay.reserve(1)
    assert isinstance(refused, Refusal)
    assert refused.reason == "minute limit of server one"
    assert 60 <= refused.free_at / 1000 - replay.clock.true / 1e6 <= 61.3


def test_a_caller_of_a_large_limit_is_not_called_back_for_a_single_token(client: redis.Redis) -> None:
    replay = Replay(client, Limits(per_minute=1000))
    began = replay.clock.true
    for _ in range(100):  # ten tokens every 300 ms
        held(replay, 10)
        replay.clock.true += 300_000
    few, many = replay.reserve(1), replay.reserve(500)
    assert isinstance(few, Refusal)
    assert isinstance(many, Refusal)
    # Twenty tokens, the fiftieth part, are free when another slot or two are.
    assert 60 <= few.free_at / 1000 - began / 1e6 <= 61.3
    assert few.free_at <= many.free_at <= few.free_at + 600
    replay.clock.true = many.free_at * 1000
    assert held(replay, 500).block.left >= 20


class Counting(redis.UnixDomainSocketConnection):
    """A connection that counts how often something is sent over it."""

    flights = 0

    def send_packed_command(self, *args: Any, **options: Any) -> None:
        Counting.flights += 1
        super().send_packed_command(*args, **options)  # type: ignore[no-untyped-call]


def test_peeking_at_many_servers_takes_nothing_and_one_round_trip(redis_server: str) -> None:
    pool = redis.ConnectionPool(connection_class=Counting, path=redis_server.removeprefix("unix://"))
    client = redis.Redis(connection_pool=pool)
    replays = [Replay(client, Limits(per_minute=10 + number)) for number in range(30)]
    for replay in replays:
        held(replay, 10)
    unlimited, unknown = Request(900_001, "free", Limits()), Request(900_002, "new", FULL)
    asked = [Request(replay.server_id, f"s{replay.server_id}", replay.limits) for replay in replays]
    limiter = Limiter(client, NoHistory(), clock=replays[0].clock.redis)
    before = Counting.flights
    usages = limiter.peek([*asked, unlimited, unknown])
    assert Counting.flights == before + 1
    for number, replay in enumerate(replays):
        usage = usages[replay.server_id]
        assert usage.used == all_windows(10)
        assert usage.can_send is (number > 0)
    blocked = usages[replays[0].server_id]
    assert blocked.blocked_by == f"minute limit of server s{replays[0].server_id}"
    assert blocked.free_at is not None
    assert 60_000 <= blocked.free_at - replays[0].clock.true // 1000 <= 61_200
    assert usages[900_001] == usages[900_002]
    assert usages[900_001].can_send
    assert used(replays[5]) == all_windows(10)


def test_what_redis_keeps_stays_small_and_goes_away(client: redis.Redis) -> None:
    replay = Replay(client, FULL)
    for number in range(3000):
        got = replay.reserve(1)
        if isinstance(got, Held) and number % 3:
            replay.limiter.give_back(got.block)
        replay.clock.true += 7_777_777
    rule = DomainRule("gmail.com", Limits(per_minute=5))
    replay.limiter.reserve_domain(replay.server_id, "one", rule, "UTC", 1)
    found = {key.decode() for key in client.scan_iter(f"{names.of_server(replay.server_id)}*")}
    assert found == {names.of_server(replay.server_id), names.of_domain(replay.server_id, "gmail.com")}
    assert client.hlen(names.of_server(replay.server_id)) < 400
    for key in found:
        assert 25 * 3600 < client.ttl(key) <= 26 * 3600
    assert client.object("encoding", names.of_server(replay.server_id)) == b"hashtable"


def test_without_redis_there_are_no_tokens_and_no_tracebacks(tmp_path: Path) -> None:
    with MortalRedis(tmp_path) as mortal:
        limiter = Limiter(redis_client(mortal.url), NoHistory())
        limits, rule = Limits(per_minute=10), DomainRule("gmail.com", Limits(per_minute=5))
        block = limiter.reserve(1, "one", limits, 5)
        assert isinstance(block, Block)
        assert limiter.connections.take(1, 5, "mine")
        mortal.kill()
        for asking in (
            lambda: limiter.reserve(1, "one", limits, 5),
            lambda: limiter.reserve_domain(1, "one", rule, "UTC", 5),
            lambda: limiter.exchange(block, 5),
            lambda: limiter.appointment(1, rule, "UTC", 5),
            lambda: limiter.peek([Request(1, "one", limits)]),
            lambda: limiter.forget(1),
            lambda: limiter.connections.take(1, 5, "other"),
            lambda: limiter.connections.renew(["mine"]),
        ):
            with pytest.raises(LimitsUnavailable, match="Redis does not answer, and limits are counted there"):
                asking()
        limiter.give_back(block)
        limiter.connections.release("mine")


def test_a_redis_that_was_started_again_is_counted_again(tmp_path: Path) -> None:
    with MortalRedis(tmp_path) as mortal:
        past = [(int(time.time()) // 60 - 10, 40)]
        limiter = Limiter(redis_client(mortal.url), Past(past))
        limits = Limits(per_hour=100)
        block = limiter.reserve(1, "one", limits, 50)
        assert isinstance(block, Block)
        assert block.left == 50
        past[:] = [(int(time.time()) // 60 - 10, 90)]
        mortal.kill()
        mortal.start()
        # It has everything in its file, but nobody can tell whether it is all.
        again = limiter.reserve(1, "one", limits, 50)
        assert isinstance(again, Block)
        assert again.left == 10


class Past(NoHistory):
    def __init__(self, past: list[tuple[int, int]]) -> None:
        self._past = past

    def attempts(self, server_id: int, since: int) -> list[tuple[int, int]]:
        return [(minute, count) for minute, count in self._past if minute >= since]
