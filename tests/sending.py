"""What the campaign tests share: people, a campaign, a way to send it in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from app.campaigns.expand_task import expand_campaign
from app.campaigns.lifecycle import Draft, create_campaign, schedule_campaign, start_due
from app.campaigns.service import SendService
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.models.tables import List, Server
from app.queues.broker import redis_client
from tests.smtp_server import SmtpServer

NOW = 1_790_000_000_000


def add_people(db: Db, count: int, prefix: str = "p", **columns: object) -> list[int]:
    """Subscribers prefix1@example.test …; their ids."""
    db.run_many(
        "INSERT INTO subscribers (email, email_key, name, attributes, status, created_at, updated_at)",
        [
            (
                f"{prefix}{i}@example.test",
                f"{prefix}{i}@example.test",
                f"Person {i}",
                '{"city": "Rome"}',
                "active",
                1,
                1,
            )
            for i in range(1, count + 1)
        ],
    )
    rows = db.rows("SELECT id FROM subscribers WHERE email_key LIKE ? ORDER BY id", f"{prefix}%")
    return [int(row[0]) for row in rows]


def add_list(db: Db, name: str, members: Sequence[int], status: str = "active") -> int:
    """A list with these members; its id."""
    list_id = int(List.create(name=name, created_at=1).id)
    join(db, list_id, members, status)
    return list_id


def join(db: Db, list_id: int, members: Sequence[int], status: str = "active") -> None:
    db.run_many(
        "INSERT INTO memberships (list_id, subscriber_id, status, created_at, updated_at)",
        [(list_id, member, status, 1, 1) for member in members],
    )


def add_test_server(server: SmtpServer, name: str = "sink") -> int:
    return add_server(name=name, host="127.0.0.1", port=server.port, tls="none", now=NOW)


def draft(db: Db, lists: Sequence[str], **changes: object) -> int:
    """A campaign with one field in each part; its id."""
    said: dict[str, object] = {
        "name": "test",
        "subject": "Hello {{ name }}",
        "sender": "Shop <news@shop.test>",
        "lists": lists,
        "html": "<p>Dear {{ name }} of {{ city }}</p>",
        "text": "Dear {{ name }} of {{ city }}",
    }
    return create_campaign(db, Draft(**{**said, **changes}), NOW)  # type: ignore[arg-type]


def start(db: Db, campaign_id: int) -> None:
    schedule_campaign(db, campaign_id, NOW, NOW)
    assert campaign_id in start_due(db, NOW)


def expand(db: Db, settings: Settings, campaign_id: int) -> None:
    expand_campaign(db, settings, campaign_id, threading.Event(), lambda: None)


def campaign_of(db: Db, settings: Settings, name: str = "all", **changes: object) -> int:
    """A campaign to a list, expanded and sending; its id."""
    campaign_id = draft(db, [name], **changes)
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def campaign_to(db: Db, settings: Settings, people: int, name: str = "all", **changes: object) -> int:
    """The same to new people NAME1@example.test … on a list of that name; its id."""
    add_list(db, name, add_people(db, people, name))
    return campaign_of(db, settings, name, **changes)


def states(db: Db, campaign_id: int) -> dict[str, int]:
    """How many of its recipients are in each state."""
    rows = db.rows("SELECT state, COUNT(*) FROM recipients WHERE campaign_id = ? GROUP BY state", campaign_id)
    return {str(state): int(count) for state, count in rows}


def limited(server: SmtpServer, name: str, **columns: object) -> int:
    """A server with limits, or whatever else its row may hold; its id."""
    server_id = add_test_server(server, name)
    Server.update(**columns).where(Server.id == server_id).execute()
    return server_id


@contextmanager
def own_redis(settings: Settings, url: str, number: int) -> Iterator[Settings]:
    """The settings with an empty Redis database that no other test file uses.

    Where a test counts mails: a Redis or a commit that takes long costs tokens, which then count as used.
    """
    here = replace(settings, redis_url=f"{url}?db={number}")
    client = redis_client(here.redis_url)
    client.flushdb()
    with pytest.MonkeyPatch.context() as patient:
        patient.setattr("app.campaigns.service.REDIS_SECONDS", 60.0)
        patient.setattr("app.mail.limits.counting.PATIENCE", 60_000_000)
        yield here
    client.flushdb()
    client.close()


def send_all(db: Db, settings: Settings, threads: int = 1) -> int:
    """Work off everything that is ready; how many mails were sent."""
    service = SendService(db, settings, threads=threads, stop=threading.Event())
    try:
        workers = [threading.Thread(target=_drain, args=(service, db)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return service.sent
    finally:
        service.close()


@contextmanager
def sending(db: Db, settings: Settings, threads: int = 2) -> Iterator[SendService]:
    """Threads that go on looking for work, as workers do, until the block ends."""
    over = threading.Event()
    service = SendService(db, settings, threads=threads, stop=threading.Event())

    def work() -> None:
        while not over.is_set():
            if not service.work():
                over.wait(0.01)
        db.close()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield service
    finally:
        over.set()
        for worker in workers:
            worker.join()
        service.close()


def _drain(service: SendService, db: Db) -> None:
    while service.work():
        pass
    db.close()
