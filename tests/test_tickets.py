"""Tickets: as many as are wanted, never stopped by those that nobody will ever finish."""

from __future__ import annotations

from collections.abc import Iterator

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker

from app.queues.broker import make_broker
from app.queues.tickets import enqueue, top_up, waiting
from tests.reaping import outstanding


@pytest.fixture
def broker(redis_server: str) -> Iterator[RedisBroker]:
    before = dramatiq.broker.global_broker
    broker = make_broker(f"{redis_server}?db=12")
    broker.client.flushdb()
    yield broker
    broker.client.flushdb()
    broker.client.close()
    dramatiq.broker.global_broker = before


def test_tickets_are_brought_up_to_what_is_wanted_and_no_further(broker: RedisBroker) -> None:
    assert top_up(broker, "send", "send", 5) == 5
    assert top_up(broker, "send", "send", 5) == 0
    assert top_up(broker, "send", "send", 8) == 3
    assert top_up(broker, "send", "send", 2) == 0
    assert (waiting(broker, "send"), outstanding(broker, "send")) == (8, 8)


def test_a_flushed_redis_gets_its_tickets_again(broker: RedisBroker) -> None:
    top_up(broker, "send", "send", 5)
    broker.client.flushdb()
    assert top_up(broker, "send", "send", 5) == 5


def test_what_is_fetched_does_not_wait_any_more_but_is_outstanding(broker: RedisBroker) -> None:
    top_up(broker, "send", "send", 3)
    broker.do_fetch("send", 2)
    assert (waiting(broker, "send"), outstanding(broker, "send")) == (1, 3)


def test_tickets_in_a_dead_workers_hands_do_not_keep_new_ones_from_being_issued(
    broker: RedisBroker, redis_server: str
) -> None:
    top_up(broker, "send", "send", 4)
    dead = RedisBroker(url=f"{redis_server}?db=12")  # type: ignore[no-untyped-call]
    dead.do_fetch("send", 4)
    dead.client.close()
    assert top_up(broker, "send", "send", 2) == 2
    assert waiting(broker, "send") == 2


def test_a_ticket_is_a_message_without_arguments_that_dramatiq_can_read(broker: RedisBroker) -> None:
    enqueue(broker, "send", "send")
    enqueue(broker, "expand", "expand", [18])
    (ticket,) = (dramatiq.Message.decode(raw) for raw in broker.do_fetch("send", 9))
    (order,) = (dramatiq.Message.decode(raw) for raw in broker.do_fetch("expand", 9))
    assert (ticket.queue_name, ticket.actor_name, ticket.args, ticket.kwargs) == ("send", "send", (), {})
    assert (order.queue_name, order.actor_name, order.args) == ("expand", "expand", (18,))
