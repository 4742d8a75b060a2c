"""What waits: messages in Redis with the age of the oldest, recipients by the counters of their batches."""

from __future__ import annotations

import time
import uuid

import pytest

from app.config import Settings
from app.db import Db
from app.mail.senders import pause_sender
from app.mail.servers import add_server
from app.models.tables import Batch, Campaign
from app.queues.broker import make_broker
from app.queues.depth import Depth, depths
from app.queues.recipients import waiting_recipients
from app.queues.tickets import enqueue
from tests.sending import NOW, add_list, add_people, draft, expand, start


def test_a_queue_is_as_deep_as_its_messages_and_as_old_as_its_head(redis_server: str) -> None:
    broker = make_broker(redis_server)
    name, empty = f"q{uuid.uuid4().hex}", f"q{uuid.uuid4().hex}"
    before = time.time()
    enqueue(broker, name, "first")
    time.sleep(0.05)
    enqueue(broker, name, "second")

    found = depths(broker.client, [name, empty])

    assert found[empty] == Depth(waiting=0, in_hand=0, delayed=0, dead=0, oldest_seconds=None)
    deep = found[name]
    assert (deep.waiting, deep.in_hand, deep.delayed, deep.dead) == (2, 0, 0, 0)
    assert deep.oldest_seconds is not None
    assert 0.05 <= deep.oldest_seconds <= time.time() - before + 1


def test_no_queue_at_all_is_asked_for_nothing(redis_server: str) -> None:
    assert depths(make_broker(redis_server).client, []) == {}


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """250 recipients in three batches, started at NOW."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "a", add_people(db, 250))
    campaign_id = draft(db, ["a"], subject="Hello", html=None, text="Hello")
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def test_recipients_wait_since_their_campaign_began(db: Db, campaign: int) -> None:
    found = waiting_recipients(db, NOW + 12_000)[campaign]

    assert (found.due, found.later, found.leased, found.oldest_seconds, found.rate_per_second) == (250, 0, 0, 12.0, 0.0)
    assert found.name == "test"


def test_due_deferred_leased_and_done_recipients_are_told_apart(db: Db, campaign: int) -> None:
    Batch.update(ready_at=NOW + 60_000).where(Batch.number == 1).execute()
    Batch.update(state="leased").where(Batch.number == 2).execute()
    Batch.update(state="done", pending=0, sent=45, failed=5, finished_at=NOW + 11_000).where(
        Batch.number == 3
    ).execute()

    found = waiting_recipients(db, NOW + 20_000)[campaign]

    assert (found.due, found.later, found.leased, found.oldest_seconds) == (0, 100, 100, None)
    # Its time has come: it has waited since then, not since the campaign began.
    later = waiting_recipients(db, NOW + 61_000)[campaign]
    assert (later.due, later.later, later.oldest_seconds) == (100, 0, 1.0)


def test_the_speed_is_that_of_the_minutes_until_enough_batches_end_in_seconds(db: Db, campaign: int) -> None:
    minute = NOW // 60_000
    db.run(
        "INSERT INTO deliveries (server_id, minute, campaign_id, attempts, sent, failed, deferred) VALUES "
        "(1, ?, ?, 130, 110, 20, 0), (1, ?, ?, 400, 30, 10, 360)",
        minute, campaign, minute + 1, campaign,
    )  # fmt: skip
    # NOW is 20 s after the full minute.
    at = NOW + 60_000
    found = waiting_recipients(db, at)[campaign]
    assert (found.rate_per_second, found.rate_seconds) == (round(170 / 60, 1), 60.0), "not before it began"
    found = waiting_recipients(db, at + 60_000)[campaign]
    assert (found.rate_per_second, found.rate_seconds) == (0.5, 80.0)
    db.run(
        "INSERT INTO batches (campaign_id, number, state, ready_at, pending, sent, finished_at) "
        "SELECT ?, 10 * id, 'done', 0, 0, 10, ? FROM subscribers ORDER BY id LIMIT 20",
        campaign, at,
    )  # fmt: skip
    found = waiting_recipients(db, at + 5000)[campaign]
    assert (found.rate_per_second, found.rate_seconds) == (20.0, 10.0)


def test_what_is_held_for_long_and_what_a_paused_sender_has_is_not_due(db: Db, campaign: int) -> None:
    def look() -> tuple[int, int, str | None]:
        found = waiting_recipients(db, NOW)[campaign]
        return found.due, found.later, found.held_by

    limit = "second limit of server sink"
    Campaign.update(held_by=limit, held_until=NOW + 900).execute()
    assert look() == (250, 0, limit), "a worker will be needed in a moment"
    Campaign.update(held_until=NOW - 900).execute()
    assert look() == (250, 0, limit), "it was held a moment ago"
    Campaign.update(held_until=NOW - 60_000).execute()
    assert look() == (250, 0, None)
    Campaign.update(held_until=NOW + 60_000).execute()
    assert look() == (0, 250, limit)
    assert waiting_recipients(db, NOW)[campaign].oldest_seconds is None
    Campaign.update(held_until=0).execute()
    pause_sender(db, "news@shop.test", "blocklist", NOW)
    assert look() == (0, 250, "its sender is paused: blocklist")


def test_only_campaigns_that_are_sending_wait(db: Db, campaign: int) -> None:
    Campaign.update(status="cancelled").where(Campaign.id == campaign).execute()
    assert waiting_recipients(db, NOW) == {}


def test_a_campaign_without_batches_yet_waits_with_nothing(db: Db) -> None:
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "a", [])
    campaign_id = draft(db, ["a"], subject="Hello", html=None, text="Hello")
    start(db, campaign_id)

    found = waiting_recipients(db, NOW)[campaign_id]

    assert (found.due, found.later, found.leased, found.oldest_seconds) == (0, 0, 0, None)
