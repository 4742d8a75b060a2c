"""A round of a dispatcher with a real Redis: everybody who is due is enqueued, once, and nothing is lost with Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from app.config import Settings, read_settings
from app.db import Db
from app.queues import keys
from app.queues.broker import redis_client
from app.schedules.claims import start
from app.schedules.dispatch import QUEUE, dispatch, put_claims
from app.schedules.sweep import LOOK_MS
from app.schedules.times import MINUTE
from tests.schedules.people import NOW, add_users, schedule
from tests.working import LossyLine, MortalRedis


@pytest.fixture
def client(settings: Settings) -> redis.Redis:
    found = redis_client(settings.redis_url)
    found.flushdb()
    return found


def messages(client: redis.Redis) -> list[tuple[int, str]]:
    """User and token of what waits, in order."""
    ids: Any = client.lrange(keys.waiting(QUEUE), 0, -1)
    stored: list[Any] = [client.hget(keys.messages(QUEUE), id_) for id_ in ids]
    return [tuple(json.loads(raw)["args"]) for raw in stored]


def with_size(settings: Settings, size: int) -> Settings:
    return Settings(**{**settings.__dict__, "dispatch_batch_size": size})


def test_everybody_who_is_due_is_enqueued_once_with_a_token_a_batch(
    db: Db, settings: Settings, client: redis.Redis
) -> None:
    users = add_users(db, 45)
    told: list[int] = []

    done = dispatch(db, settings, put_claims(client), NOW, lambda claims: told.extend(c.user_id for c in claims))

    assert (done.claimed, done.errors) == (45, [])
    found = messages(client)
    assert sorted(user for user, _ in found) == users == sorted(told)
    assert all(schedule(user).locked_by == token for user, token in found)
    assert len({token for _, token in found}) == 2  # twenty, then the others
    assert dispatch(db, settings, put_claims(client), NOW).claimed == 0
    assert len(messages(client)) == 45


def test_without_redis_everybody_stays_due(db: Db, settings: Settings) -> None:
    users = add_users(db, 3, minutes=5, due=NOW - 11 * MINUTE)
    nowhere = redis_client("unix:///nonexistent/redis.sock")

    done = dispatch(db, settings, put_claims(nowhere), NOW)

    assert done.claimed == 0
    assert "Redis does not answer" in done.errors[0]
    for user in users:
        found = schedule(user)
        assert (found.next_run_at, found.skipped, found.locked_by) == (NOW - 11 * MINUTE, 0, None)


def test_messages_that_are_lost_with_redis_are_back_at_the_next_tick(
    db: Db, settings: Settings, client: redis.Redis
) -> None:
    users = add_users(db, 3, minutes=60)
    dispatch(db, settings, put_claims(client), NOW)
    before = messages(client)
    client.flushdb()

    assert dispatch(db, settings, put_claims(client), NOW + LOOK_MS).swept.put_back == 0
    assert dispatch(db, settings, put_claims(client), NOW + MINUTE).swept.put_back == 3

    assert messages(client) == before
    assert [schedule(user).period for user in users] == [NOW] * 3


def test_a_message_that_still_waits_is_not_enqueued_a_second_time(
    db: Db, settings: Settings, client: redis.Redis
) -> None:
    add_users(db, 3, minutes=60)
    dispatch(db, settings, put_claims(client), NOW)
    taken: Any = client.lpop(keys.waiting(QUEUE))  # one of them in a worker's hands
    client.sadd(keys.acks("somebody", QUEUE), taken)

    assert dispatch(db, settings, put_claims(client), NOW + MINUTE).swept.put_back == 0
    for round_ in range(1, 4):
        done = dispatch(db, settings, put_claims(client), NOW + round_ * (settings.dispatch_lock_ttl + 1))
        assert (done.swept.put_back, done.swept.renewed) == (0, 3)

    assert len(messages(client)) == 2


@pytest.mark.parametrize("size", ["", "7"], ids=["grows", "as-set"])
def test_a_transaction_claims_as_many_as_the_setting_says(
    db: Db, settings: Settings, client: redis.Redis, size: str
) -> None:
    add_users(db, 45)
    chosen = read_settings({"MAILCREW_HOME": str(settings.home), "DISPATCH_BATCH_SIZE": size})
    batches: list[int] = []

    dispatch(db, chosen, put_claims(client), NOW, lambda claims: batches.append(len(claims)))

    assert batches == ([7, 7, 7, 7, 7, 7, 3] if size else [20, 25])
    assert len({token for _, token in messages(client)}) == len(batches)


def test_an_answer_of_redis_that_is_lost_doubles_nobody(
    db: Db, settings: Settings, short_directory: Path, tmp_path: Path
) -> None:
    directory = short_directory / tmp_path.name
    directory.mkdir()
    add_users(db, 1)
    with MortalRedis(directory) as server:
        line = LossyLine(server.socket, directory / "line.sock")
        put = put_claims(redis_client(line.url))
        dispatch(db, settings, put, NOW)  # from here on Redis knows the script
        server.client.flushdb()
        (user,) = add_users(db, 1)
        line.lose = b"monitor.msgs"
        assert dispatch(db, settings, put, NOW).errors
        assert line.lost.wait(20)
        assert dispatch(db, settings, put, NOW + 1000).claimed == 1
        found = messages(server.client)
        line.close()

    # Both messages are there, and only one of them starts anything.
    assert [who for who, _ in found] == [user, user]
    assert [start(db, who, token, NOW + 2000) is not None for who, token in found] == [False, True]


def test_a_batch_may_be_larger_than_what_one_script_takes(db: Db, settings: Settings, client: redis.Redis) -> None:
    add_users(db, 1200)
    assert dispatch(db, with_size(settings, 5000), put_claims(client), NOW).claimed == 1200
    assert len(messages(client)) == 1200
