"""The worker loop on a real Redis: strict order, nothing hoarded, nothing lost, nothing after stop."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import dramatiq
import pytest
import redis
from dramatiq.broker import Broker
from dramatiq.brokers.redis import RedisBroker

from app.queues.broker import NAMESPACE, make_broker
from app.queues.tickets import enqueue, waiting
from tests.reaping import outstanding
from tests.working import Running, eventually, running


@pytest.fixture
def broker(redis_server: str) -> Iterator[RedisBroker]:
    """A broker with an empty Redis database of its own."""
    before: Broker | None = dramatiq.broker.global_broker
    broker = make_broker(f"{redis_server}?db=9")
    broker.client.flushdb()
    yield broker
    broker.client.flushdb()
    broker.client.close()
    dramatiq.broker.global_broker = before


class Trace:
    """An actor `note` that writes down what it was given, and `hold` that also waits to be let go."""

    def __init__(self, broker: RedisBroker) -> None:
        self.noted: list[object] = []
        self.holding = threading.Semaphore(0)
        self.let_go = threading.Event()

        @dramatiq.actor(queue_name="work", broker=broker, max_retries=0)
        def note(what: object) -> None:
            self.noted.append(what)

        @dramatiq.actor(queue_name="work", broker=broker, max_retries=0)
        def hold(what: object) -> None:
            self.holding.release()
            self.let_go.wait(100)
            self.noted.append(what)


@pytest.fixture
def trace(broker: RedisBroker) -> Iterator[Trace]:
    trace = Trace(broker)
    yield trace
    trace.let_go.set()


def dead_letters(broker: RedisBroker, queue: str) -> int:
    return int(broker.client.zcard(f"{NAMESPACE}:{queue}.XQ"))


def in_hand(broker: RedisBroker, queue: str) -> int:
    """Messages that some worker has fetched and not acknowledged."""
    keys = broker.client.keys(f"{NAMESPACE}:__acks__.*.{queue}")
    return sum(int(broker.client.scard(key)) for key in keys)


def test_nothing_of_a_later_queue_runs_while_an_earlier_one_has_work(broker: RedisBroker, trace: Trace) -> None:
    for number in range(5):
        enqueue(broker, "low", "note", [f"low {number}"])
    enqueue(broker, "high", "hold", ["high 0"])
    with running(broker, "high", "low"):
        trace.holding.acquire(timeout=10)
        for number in range(1, 4):
            enqueue(broker, "high", "note", [f"high {number}"])
        trace.let_go.set()
        eventually(lambda: len(trace.noted) == 9, "all have run")
    assert trace.noted == [f"high {n}" for n in range(4)] + [f"low {n}" for n in range(5)]


def test_only_as_many_messages_are_fetched_as_threads_are_free(broker: RedisBroker, trace: Trace) -> None:
    for number in range(10):
        enqueue(broker, "work", "hold", [number])
    with running(broker, "work", threads=2) as first:
        eventually(lambda: first.loop.busy == 2, "two are being worked on")
        assert waiting(broker, "work") == 8
        with running(broker, "work", threads=3) as second:
            eventually(lambda: second.loop.busy == 3, "another worker takes three")
            assert waiting(broker, "work") == 5
            trace.let_go.set()
            eventually(lambda: len(trace.noted) == 10, "all have run")
    assert sorted(map(str, trace.noted)) == [str(n) for n in range(10)]


def test_a_message_that_was_worked_on_is_gone(broker: RedisBroker, trace: Trace) -> None:
    enqueue(broker, "work", "note", [1])
    with running(broker, "work") as worker:
        eventually(lambda: worker.loop.processed == 1, "it has run")
    assert (outstanding(broker, "work"), in_hand(broker, "work"), dead_letters(broker, "work")) == (0, 0, 0)


def test_a_failing_task_is_tried_again_and_then_kept_among_the_dead_letters(broker: RedisBroker) -> None:
    tries: list[float] = []

    @dramatiq.actor(queue_name="work", broker=broker, max_retries=2, min_backoff=100, max_backoff=200)
    def fail() -> None:
        tries.append(time.monotonic())
        raise RuntimeError("no")

    fail.send()
    with running(broker, "work", poll=0.05):
        eventually(lambda: dead_letters(broker, "work") == 1, "it is a dead letter")
    assert len(tries) == 3
    assert outstanding(broker, "work") == 0
    assert outstanding(broker, "work.DQ") == 0


def test_a_message_for_an_unknown_actor_becomes_a_dead_letter_and_the_worker_goes_on(
    broker: RedisBroker, trace: Trace
) -> None:
    enqueue(broker, "work", "nobody")
    enqueue(broker, "work", "note", ["next"])
    with running(broker, "work"):
        eventually(lambda: trace.noted == ["next"], "the next message runs")
        eventually(lambda: dead_letters(broker, "work") == 1, "it is a dead letter")
    assert outstanding(broker, "work") == 0


def test_an_entry_that_is_no_message_does_not_end_the_worker(broker: RedisBroker, trace: Trace) -> None:
    broker.client.hset(f"{NAMESPACE}:work.msgs", "x", "not a message")
    broker.client.rpush(f"{NAMESPACE}:work", "x")
    enqueue(broker, "work", "note", ["next"])
    with running(broker, "work", threads=4) as worker:
        eventually(lambda: trace.noted == ["next"] or not worker.alive, "the next message runs")
        assert worker.alive
    assert trace.noted == ["next"]


def test_a_delayed_message_runs_after_its_time_and_not_before(broker: RedisBroker) -> None:
    ran: list[int] = []

    @dramatiq.actor(queue_name="work", broker=broker)
    def late(due: int) -> None:
        ran.append(int(time.time() * 1000) - due)

    with running(broker, "work", poll=0.05):
        late.send_with_options(args=(int(time.time() * 1000) + 600,), delay=600)
        eventually(lambda: ran, "it has run")
    assert ran[0] >= 0
    assert outstanding(broker, "work.DQ") == 0


def test_delayed_messages_do_not_wait_for_a_worker_that_is_busy(broker: RedisBroker, trace: Trace) -> None:
    note = broker.get_actor("note")
    with running(broker, "work", poll=0.05) as busy:
        note.send_with_options(args=("late",), delay=1500)
        eventually(lambda: in_hand(broker, "work.DQ") == 1 or trace.noted, "the first worker holds the delayed message")
        enqueue(broker, "work", "hold", ["long"])
        eventually(lambda: busy.loop.busy == 1, "the first worker is busy")
        with running(broker, "work", poll=0.05):
            eventually(lambda: trace.noted == ["late"], "an idle worker runs it")
            trace.let_go.set()


def test_an_idle_worker_stops_at_once(broker: RedisBroker) -> None:
    with running(broker, "work", "other", poll=600.0) as worker:
        eventually(lambda: worker.loop._free == 1, "it waits for work")
        worker.end()


def test_a_busy_worker_finishes_its_task_and_hands_back_the_rest(broker: RedisBroker, trace: Trace) -> None:
    for number in range(6):
        enqueue(broker, "work", "hold", [number])
    broker.get_actor("note").send_with_options(args=("much later",), delay=60_000)
    with running(broker, "work", threads=2) as worker:
        eventually(lambda: worker.loop.busy == 2, "two are being worked on")
        worker.stop.set()
        threading.Timer(0.3, trace.let_go.set).start()
        worker.end()
    assert len(trace.noted) == 2
    assert (waiting(broker, "work"), outstanding(broker, "work"), in_hand(broker, "work")) == (4, 4, 0)
    assert (waiting(broker, "work.DQ"), in_hand(broker, "work.DQ")) == (1, 0)


def test_delayed_messages_that_were_held_are_handed_back(broker: RedisBroker, trace: Trace) -> None:
    broker.get_actor("note").send_with_options(args=("much later",), delay=60_000)
    with running(broker, "work", poll=0.05):
        eventually(lambda: in_hand(broker, "work.DQ") == 1, "the worker holds it")
    assert (waiting(broker, "work.DQ"), in_hand(broker, "work.DQ")) == (1, 0)


def test_nothing_that_is_enqueued_after_the_stop_runs(broker: RedisBroker, trace: Trace) -> None:
    for attempt in range(8):
        broker.flush("work")
        with running(broker, "work", threads=4, poll=0.02) as worker:
            eventually(partial(has_free, worker, 4), "it waits for work")
            worker.stop.set()
            enqueue(broker, "work", "note", [attempt])
            worker.end()
        assert (waiting(broker, "work"), in_hand(broker, "work")) == (1, 0)
    assert trace.noted == []


def has_free(worker: Running, threads: int) -> bool:
    return worker.loop._free == threads


def test_a_worker_whose_threads_are_all_busy_still_counts_as_alive(broker: RedisBroker, trace: Trace) -> None:
    def last_heard() -> float:
        return float(broker.client.zscore(f"{NAMESPACE}:__heartbeats__", broker.broker_id) or 0)

    enqueue(broker, "work", "hold", [1])
    with running(broker, "work") as worker:
        eventually(lambda: worker.loop.busy == 1, "it is busy")
        before = last_heard()
        # Dramatiq takes a worker for dead, and runs its messages again, after 60 s without a command.
        eventually(lambda: last_heard() > before, "it beats while it is busy")
        trace.let_go.set()


def test_a_stock_dramatiq_actor_and_our_loop_understand_each_other(broker: RedisBroker, redis_server: str) -> None:
    ran: list[tuple[object, ...]] = []
    stock = RedisBroker(url=f"{redis_server}?db=9")  # type: ignore[no-untyped-call]

    @dramatiq.actor(queue_name="work", actor_name="add", broker=stock)
    def stock_add(a: int, b: str = "") -> None:
        raise AssertionError("not here")

    @dramatiq.actor(queue_name="work", actor_name="add", broker=broker)
    def add(a: int, b: str = "") -> None:
        ran.append((a, b))

    stock_add.send(1, b="zwei")
    stock_add.send_with_options(args=(2,), delay=100)
    with running(broker, "work", poll=0.05):
        eventually(lambda: ran == [(1, "zwei"), (2, "")], "both have run")
    stock.client.close()


def test_a_stock_dramatiq_worker_processes_what_we_enqueue(broker: RedisBroker, redis_server: str) -> None:
    ran: list[int] = []
    stock = RedisBroker(url=f"{redis_server}?db=9")  # type: ignore[no-untyped-call]

    @dramatiq.actor(queue_name="work", actor_name="add", broker=stock)
    def add(number: int) -> None:
        ran.append(number)

    enqueue(broker, "work", "add", [7])
    worker = dramatiq.Worker(stock, queues={"work"}, worker_timeout=100, worker_threads=1)
    worker.start()
    try:
        eventually(lambda: ran == [7], "it has run")
        eventually(lambda: outstanding(broker, "work") == 0, "it is acknowledged")
    finally:
        worker.stop()
        stock.client.close()


def test_the_broker_does_not_retry_unseen(short_directory: Path) -> None:
    before = dramatiq.broker.global_broker
    path = str(short_directory / "rude.sock")
    callers: list[object] = []
    # The handler says nothing and the server hangs up.
    with socketserver.UnixStreamServer(path, lambda request, *_: callers.append(request)) as rude:  # type: ignore[arg-type]
        threading.Thread(target=rude.serve_forever, daemon=True).start()
        with pytest.raises(redis.ConnectionError):
            enqueue(make_broker(f"unix://{path}"), "work", "note", [1])
        rude.shutdown()
    assert len(callers) == 1
    dramatiq.broker.global_broker = before


def test_a_worker_that_rests_looks_at_once_when_it_is_woken(broker: RedisBroker, trace: Trace) -> None:
    with running(broker, "work", poll=60) as worker:
        enqueue(broker, "work", "note", ["first"])
        eventually(lambda: trace.noted == ["first"], "it works")
        time.sleep(0.5)
        for number in range(3):
            enqueue(broker, "work", "note", [number])
            worker.loop.wake()
            eventually(lambda: number in trace.noted, "it looks before its minute is over")  # noqa: B023
        worker.end()
