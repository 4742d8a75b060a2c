"""A message that kills its worker each time is buried, with the reason; those beside it go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker

from app.queues import keys
from app.queues.broker import make_broker
from app.queues.counted import QUARANTINED, RECOVERED, counted_so_far
from app.queues.dead_letters import dead_letters, replay
from app.queues.reaper import DEATHS
from app.queues.tickets import enqueue, waiting
from tests.reaping import BEGAN, Doomed, outstanding, ran
from tests.test_reaper import dead_worker, reap_until
from tests.working import eventually, running


@pytest.fixture
def url(redis_server: str) -> str:
    return f"{redis_server}?db=6"


@pytest.fixture
def broker(url: str) -> Iterator[RedisBroker]:
    before = dramatiq.broker.global_broker
    broker = make_broker(url)
    broker.client.flushdb()
    yield broker
    broker.client.flushdb()
    broker.client.close()
    dramatiq.broker.global_broker = before


@pytest.mark.parametrize("threads", [1, 4])
def test_a_message_that_kills_its_worker_three_times_is_quarantined_and_the_others_go_on(
    broker: RedisBroker, url: str, threads: int
) -> None:
    others = [f"innocent {number}" for number in range(8)]
    enqueue(broker, "work", "poison", ["poison"])
    for other in others:
        enqueue(broker, "work", "note", [other])

    def settled() -> bool:
        return len(list(dead_letters(broker.client, "work"))) == 1 and set(ran(broker.client)) == set(others)

    workers: list[Doomed] = []
    try:

        def supervise() -> bool:
            if not workers or not workers[-1].alive:
                workers.append(Doomed(url, ["work"], threads=threads))
            return settled()

        eventually(supervise, "the others have run, and one is buried", 150)
        eventually(lambda: outstanding(broker, "work") == 0, "nothing is left over")
    finally:
        for worker in workers:
            worker.kill()
    (letter,) = dead_letters(broker.client, "work")
    assert letter.message is not None
    assert letter.message.args == ("poison",)
    assert letter.reason == f"quarantined: {DEATHS} workers died while they had it in hand"
    assert ran(broker.client, BEGAN).count("poison") == DEATHS
    counted = counted_so_far(broker.client)
    assert counted[QUARANTINED] == {"work": 1}
    assert counted[RECOVERED]["work"] >= DEATHS - 1


def test_a_message_that_ends_after_all_starts_counting_anew(broker: RedisBroker, url: str) -> None:
    tries: list[int] = []

    @dramatiq.actor(queue_name="work", broker=broker, max_retries=1, min_backoff=10, max_backoff=20)
    def fail() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("once")

    enqueue(broker, "work", "fail")
    for _ in range(DEATHS - 1):
        dead_worker(url, "work", 1)
        assert reap_until(broker.client, ("work",)).put_back == 1
    with running(broker, "work", poll=0.05, threads=3):
        eventually(lambda: len(tries) == 2, "it fails, is tried again, and ends")
        eventually(lambda: outstanding(broker, "work") == 0, "it is acknowledged")
    assert list(dead_letters(broker.client, "work")) == []


def test_a_suspect_runs_alone_and_then_the_worker_takes_as_many_as_it_can_again(broker: RedisBroker, url: str) -> None:
    together: set[int] = set()
    seen: list[set[int]] = []

    @dramatiq.actor(queue_name="work", broker=broker, max_retries=0)
    def note(number: int) -> None:
        together.add(number)
        threading.Event().wait(0.3)
        seen.append(set(together))
        together.discard(number)

    enqueue(broker, "work", "note", [0])
    dead_worker(url, "work", 1)
    reap_until(broker.client, ("work",))
    for number in range(1, 7):
        enqueue(broker, "work", "note", [number])
    with running(broker, "work", threads=3, poll=0.05):
        eventually(lambda: outstanding(broker, "work") == 0, "all have run")
    assert [group for group in seen if 0 in group] == [{0}]
    assert max(map(len, seen)) == 3


@pytest.mark.parametrize("queue", ["work.DQ", "send", "campaign_18"])
def test_deaths_do_not_count_against_delayed_messages_and_tickets(broker: RedisBroker, url: str, queue: str) -> None:
    message = dramatiq.Message[object](
        queue_name=keys.canonical(queue), actor_name="note", args=(), kwargs={}, options={}
    )
    broker.enqueue(message, delay=60_000 if queue.endswith(".DQ") else None)
    for _ in range(DEATHS + 2):
        dead_worker(url, queue, 1)
        assert reap_until(broker.client, (keys.canonical(queue),)).put_back == 1
    assert waiting(broker, queue) == 1
    (raw,) = broker.do_fetch(queue, 1)
    assert raw[:1] == b"{"


def test_a_quarantined_message_that_is_replayed_has_three_lives_again(broker: RedisBroker, url: str) -> None:
    enqueue(broker, "work", "note", [{"empty": [], "big": 2**60, "name": "Łódź"}])
    for _ in range(DEATHS):
        dead_worker(url, "work", 1)
        reap_until(broker.client, ("work",))
    (letter,) = dead_letters(broker.client, "work")
    assert replay(broker.client, letter)
    for _ in range(DEATHS - 1):
        dead_worker(url, "work", 1)
        assert reap_until(broker.client, ("work",)).put_back == 1
    (raw,) = broker.do_fetch("work", 1)
    message = dramatiq.Message.decode(raw)
    assert message.args == ({"empty": [], "big": 2**60, "name": "Łódź"},)
    assert letter.message is not None
    assert message.message_id == letter.message.message_id
