"""`--tries`, `--timeout` and tasks that no exception reaches: real processes, real Redis."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.config import Settings, make_home, read_settings
from app.queues import keys
from app.queues.broker import make_broker
from app.queues.consumer import Consumer
from app.queues.dead_letters import dead_letters, read_message
from app.queues.tickets import enqueue
from tests.reaping import BEGAN, outstanding, ran
from tests.working import WorkerProcess, eventually

pytestmark = pytest.mark.slow

MODULES = ("--queues", "work", "--modules", "tests.stubborn")


@pytest.fixture
def home(tmp_path: Path, redis_server: str) -> Settings:
    made = read_settings({"MAILCREW_HOME": str(tmp_path / "home"), "REDIS_URL": f"{redis_server}?db=7"}, root=tmp_path)
    make_home(made)
    return made


@pytest.fixture
def client(home: Settings) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(home.redis_url)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


def put(home: Settings, actor: str, *args: Any) -> None:
    broker = make_broker(home.redis_url)
    enqueue(broker, "work", actor, args)
    broker.client.close()


def reasons(client: redis.Redis) -> list[str]:
    return [letter.reason for letter in dead_letters(client, "work")]


def test_tries_are_attempts_in_all(home: Settings, client: redis.Redis) -> None:
    put(home, "fail", "x")
    with WorkerProcess(home, *MODULES, "--tries", "3", "--sleep", "0.1") as worker:
        eventually(lambda: reasons(client), f"it is a dead letter\n{worker.text()}")
    assert ran(client, BEGAN) == ["x"] * 3
    assert reasons(client) == ["RuntimeError: no"]


def test_a_task_over_its_time_is_interrupted_and_tried_again(home: Settings, client: redis.Redis) -> None:
    put(home, "linger", "x")
    with WorkerProcess(home, *MODULES, "--tries", "2", "--timeout", "1", "--sleep", "0.1") as worker:
        eventually(lambda: reasons(client), "it is a dead letter")
        assert worker.alive
        worker.tell(signal.SIGTERM)
        assert worker.wait() == 0
    assert (ran(client, BEGAN), ran(client)) == (["x", "x"], [])
    assert reasons(client)[0].startswith("TimeLimitExceeded")


def test_a_blocked_task_ends_its_worker_and_is_a_failed_try(home: Settings, client: redis.Redis) -> None:
    put(home, "block", "x")
    arguments = (*MODULES, "--tries", "2", "--timeout", "1", "--threads", "1", "--sleep", "0.1")
    with WorkerProcess(home, *arguments) as worker:
        eventually(lambda: ran(client, BEGAN) == ["x"], "it runs")
        put(home, "note", "left")
        assert worker.wait(40) == 1
        told = worker.lines("task stays blocked past its time limit: this worker ends")
        assert [(line["queue"], line["actor"]) for line in told] == [("work", "block")]
        assert told[0]["seconds"] >= 11
    assert ran(client, BEGAN) == ["x"], "nobody had it twice"
    waiting = [json.loads(raw) for raw in client.hvals(keys.messages("work.DQ"))]
    assert [message["options"]["retries"] for message in waiting] == [1]
    assert client.keys("dramatiq:__acks__*") == [], "it holds nothing any more"
    assert client.hlen(keys.CONSUMERS) == 0

    with WorkerProcess(home, *arguments) as successor:
        eventually(lambda: ran(client) == ["left"], "what waited runs")
        assert successor.wait(40) == 1
    assert ran(client, BEGAN) == ["x", "x"]
    assert "still blocked 10 s after its time limit" in reasons(client)[0]


def test_a_worker_that_c_code_freezes_ends_before_others_take_its_messages(home: Settings, client: redis.Redis) -> None:
    put(home, "freeze", "x")
    with WorkerProcess(home, *MODULES) as worker:
        eventually(lambda: ran(client, BEGAN) == ["x"], "it runs")
        assert worker.wait(60) == 1
        assert "Timeout" in worker.text()
        assert "stubborn.py" in worker.text(), "the log names where it was"
    assert client.hlen(keys.messages("work")) == 1, "the reaper finds it, and counts the death"


def test_a_retry_and_letting_go_are_one_step(home: Settings, client: redis.Redis) -> None:
    broker = make_broker(home.redis_url)
    enqueue(broker, "work", "fail", ["x"])
    holder = Consumer(client, broker.broker_id, ["work"])
    message = read_message(broker.do_fetch("work", 1)[0])
    assert message is not None
    id_ = message.options["redis_message_id"]

    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(redis.RedisError):
            holder.retry("work", id_, message, 1000)
    finally:
        client.config_set("maxmemory", "0")
    assert outstanding(broker, "work") == 1, "refused as a whole: still in hand"
    assert outstanding(broker, "work.DQ") == 0

    assert holder.retry("work", id_, message, 1000)
    assert (outstanding(broker, "work"), outstanding(broker, "work.DQ")) == (0, 1)
    assert client.keys("dramatiq:__acks__*") == []
    assert not holder.retry("work", id_, message, 1000), "its answer was lost, asked again: not twice"
    assert outstanding(broker, "work.DQ") == 1
    broker.client.close()
