"""What a queue needs is read from where the truth is: recipients from the database, messages from Redis."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import asdict

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from app.config import Settings
from app.db import Db, connect
from app.queues.broker import make_broker, redis_client
from app.queues.tickets import enqueue
from app.queues.workers import KEY, WorkerStatus
from app.scaling.demand import busy_now, look
from app.scaling.table import Queue, Table, parse_table
from tests.sending import add_list, add_people, add_test_server, draft, expand, start
from tests.smtp_server import SmtpServer

TABLE: Table = parse_table('[[queue]]\nname = "send"\n[[queue]]\nname = "both"\nqueues = ["high", "default"]\n')


@pytest.fixture
def broker(settings: Settings) -> Iterator[RedisBroker]:
    before = dramatiq.broker.global_broker
    broker = make_broker(settings.redis_url)
    broker.client.flushdb()
    yield broker
    broker.client.flushdb()
    broker.client.close()
    dramatiq.broker.global_broker = before


def heartbeat(client: redis.Redis, pid: int, queues: list[str], *, busy: bool, host: str | None = None) -> None:
    host = host or socket.gethostname()
    status = WorkerStatus(
        pid=pid, host=host, program=f"p{pid}", queues=queues, threads=1, campaign_id=None, is_processing=busy,
        processed_count=0, rate_per_second=2.5, rss_mb=80.0, uptime=1.0, beat_at=client.time()[0],
    )  # fmt: skip
    client.hset(KEY, f"{host}:{pid}", json.dumps(asdict(status)))


def queue(name: str) -> Queue:
    found = TABLE.queue(name)
    assert found
    return found


def test_recipients_count_and_not_tickets(db: Db, settings: Settings, broker: RedisBroker) -> None:
    with SmtpServer() as server:
        add_test_server(server)
        add_list(db, "all", add_people(db, 30))
        add_list(db, "few", add_people(db, 4, prefix="q"))
        for name in ("all", "few"):
            campaign = draft(db, [name])
            start(db, campaign)
            expand(db, settings, campaign)
    enqueue(broker, "send", "send_ticket")

    demand = look(broker.client, db, TABLE).demand(queue("send"))
    assert demand is not None
    assert (demand.backlog, demand.in_flight, demand.rate) == (34, 0, None)
    assert demand.oldest_seconds is not None

    # The one with workers of its own asks nothing of the others.
    db.run("UPDATE campaigns SET boost = 3 WHERE id = ?", campaign)
    seen = look(broker.client, db, TABLE)
    demand = seen.demand(queue("send"))
    assert demand is not None
    assert demand.backlog == 30
    assert seen.boosts == {campaign: 3}


def test_messages_count_over_all_queues_of_a_worker(db: Db, broker: RedisBroker) -> None:
    for name in ("high", "default", "default", "other"):
        enqueue(broker, name, "anything")
    heartbeat(broker.client, 1, ["high", "default"], busy=True)
    heartbeat(broker.client, 2, ["high", "default"], busy=True, host="elsewhere")
    heartbeat(broker.client, 3, ["other"], busy=True)

    seen = look(broker.client, db, TABLE)
    demand = seen.demand(queue("both"), rate=5.0)

    assert demand is not None
    assert (demand.backlog, demand.in_flight, demand.busy, demand.rate) == (3, 0, 2, 5.0)
    assert demand.oldest_seconds is not None
    assert seen.elsewhere(queue("both")) == 1
    assert seen.busy == frozenset({1, 3})
    assert busy_now(broker.client) == seen.busy
    assert (seen.resident(1), seen.resident(2)) == (80.0, 0)
    assert seen.troubles == ()


def test_what_cannot_be_asked_is_unknown_and_not_zero(db: Db, broker: RedisBroker) -> None:
    nowhere = redis_client("unix:///nowhere/redis.sock")
    without_redis = look(nowhere, db, TABLE)
    assert (without_redis.demand(queue("send")), without_redis.demand(queue("both"))) == (None, None)
    assert without_redis.boosts == {}
    assert [trouble.split(":")[0] for trouble in without_redis.troubles] == ["Redis does not answer"]
    assert busy_now(nowhere) is None

    gone = connect("mysql://root@localhost/x?unix_socket=/nowhere/mysql.sock")
    without_database = look(broker.client, gone, TABLE)
    assert without_database.demand(queue("send")) is None
    assert without_database.demand(queue("both")) is not None
    assert without_database.boosts is None
