"""Redis goes away, comes back, loses a reply or is full: no message is lost and the worker goes on."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker

from app.queues.broker import make_broker
from app.queues.tickets import enqueue
from tests.reaping import outstanding
from tests.test_worker_loop import Trace, in_hand
from tests.working import LossyLine, MortalRedis, eventually, running


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mc-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def server(directory: Path) -> Iterator[MortalRedis]:
    server = MortalRedis(directory)
    yield server
    server.kill()


@pytest.fixture
def broker(server: MortalRedis) -> Iterator[RedisBroker]:
    before = dramatiq.broker.global_broker
    yield make_broker(server.url)
    dramatiq.broker.global_broker = before


@pytest.fixture
def trace(broker: RedisBroker) -> Iterator[Trace]:
    trace = Trace(broker)
    yield trace
    trace.let_go.set()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_worker_goes_on_after_redis_was_restarted_and_nothing_is_lost(
    server: MortalRedis, broker: RedisBroker, trace: Trace, how: str
) -> None:
    for number in range(5):
        enqueue(broker, "work", "hold", [number])
    with running(broker, "work", threads=2) as worker:
        eventually(lambda: worker.loop.busy == 2, "two are being worked on")
        getattr(server, how)()
        trace.let_go.set()
        eventually(lambda: len(trace.noted) == 2, "the tasks in hand end without Redis")
        server.start()
        eventually(lambda: len(trace.noted) == 5, "the rest runs")
        eventually(lambda: outstanding(broker, "work") == 0, "all are acknowledged")
    assert sorted(map(str, trace.noted)) == ["0", "1", "2", "3", "4"]
    assert in_hand(broker, "work") == 0


def test_a_worker_started_without_redis_waits_for_it(server: MortalRedis, broker: RedisBroker, trace: Trace) -> None:
    enqueue(broker, "work", "note", [1])
    server.stop()
    with running(broker, "work") as worker:
        threading.Event().wait(0.3)
        assert worker.alive
        server.start()
        eventually(lambda: trace.noted == [1], "it runs")


def test_stopping_without_redis_neither_hangs_nor_raises(
    server: MortalRedis, broker: RedisBroker, trace: Trace
) -> None:
    enqueue(broker, "work", "hold", [1])
    with running(broker, "work", threads=2) as worker:
        eventually(lambda: worker.loop.busy == 1, "it is being worked on")
        server.kill()
        worker.stop.set()
        trace.let_go.set()
        worker.end()
    server.start()
    assert outstanding(broker, "work") == 1, "done, but Redis never heard: kept, not lost"


def test_a_failed_task_whose_retry_redis_does_not_take_is_not_lost(server: MortalRedis, broker: RedisBroker) -> None:
    tries: list[int] = []
    gone = threading.Event()

    @dramatiq.actor(queue_name="work", broker=broker, max_retries=3, min_backoff=100, max_backoff=200)
    def fragile() -> None:
        tries.append(1)
        if len(tries) == 1:
            server.stop()
            gone.set()
            raise RuntimeError("no")

    fragile.send()
    with running(broker, "work", poll=0.05):
        assert gone.wait(60), "the first try fails"
        threading.Event().wait(1.5)
        server.start()
        eventually(lambda: len(tries) == 2, "it is tried again")


def test_a_delayed_message_whose_time_comes_without_redis_is_not_lost(
    server: MortalRedis, broker: RedisBroker, trace: Trace
) -> None:
    broker.get_actor("note").send_with_options(args=("late",), delay=6_000)
    with running(broker, "work", poll=0.05):
        eventually(lambda: in_hand(broker, "work.DQ") == 1, "the worker holds it")
        server.stop()
        threading.Event().wait(6.5)
        server.start()
        eventually(lambda: trace.noted == ["late"], "it runs once Redis is back")


def test_a_message_whose_fetch_was_answered_into_a_dead_line_still_runs(
    server: MortalRedis, broker: RedisBroker, directory: Path
) -> None:
    line = LossyLine(server.socket, directory / "lossy.sock")
    lossy = make_broker(line.url)
    trace = Trace(lossy)
    enqueue(broker, "work", "note", ["lost once"])
    line.lose = b"fetch"
    with running(lossy, "work"):
        assert line.lost.wait(10)
        eventually(lambda: trace.noted == ["lost once"], "it runs")
    line.close()


def test_a_worker_survives_a_redis_that_is_full(server: MortalRedis, broker: RedisBroker, trace: Trace) -> None:
    enqueue(broker, "work", "hold", [1])
    enqueue(broker, "work", "note", [2])
    with running(broker, "work", threads=1) as worker:
        eventually(lambda: worker.loop.busy == 1, "the first is being worked on")
        server.client.config_set("maxmemory", "1")
        trace.let_go.set()
        threading.Event().wait(1.0)
        assert worker.alive
        server.client.config_set("maxmemory", "0")
        eventually(lambda: trace.noted == [1, 2], "the next one runs when there is room again")
