"""Limits of recipients' domains: they keep only their own mails waiting, and those come back when they may go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from app.config import Settings
from app.db import Db
from app.mail.limits.domains import set_rule, unset_rule
from app.models.tables import Batch, Campaign, Recipient
from tests.sending import (
    add_list,
    add_people,
    add_test_server,
    campaign_of,
    limited,
    own_redis,
    sending,
    states,
)
from tests.smtp_server import SmtpServer
from tests.working import eventually


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Iterator[Settings]:
    with own_redis(settings, redis_server, 8) as here:
        yield here


def people_at(db: Db, domains: dict[str, int]) -> None:
    """Somebody at each domain in turn, so that each batch has some of all."""
    every = [f"{domain}-{i}@{domain}" for domain, count in domains.items() for i in range(count)]
    every.sort(key=lambda email: int(email.partition("@")[0].rpartition("-")[2]))
    db.run_many(
        "INSERT INTO subscribers (email, email_key, name, attributes, status, created_at, updated_at)",
        [(email, email, "Somebody", '{"city": "Rome"}', "active", 1, 1) for email in every],
    )
    add_list(db, "all", [int(row[0]) for row in db.rows("SELECT id FROM subscribers ORDER BY id")])


def begin_counting(db: Db, settings: Settings) -> None:
    """Send one mail to the limited domain over each server: Redis was empty, and counts from now on."""
    add_list(db, "first", add_people(db, 1, "x@slow.test-"))
    db.run("UPDATE subscribers SET email = 'x@slow.test' WHERE email LIKE 'x@slow.test-%'")
    for (name,) in db.rows("SELECT name FROM servers"):
        campaign_id = campaign_of(db, settings, "first", servers=[name])
        with sending(db, settings, threads=1):
            eventually(lambda: Campaign.get_by_id(campaign_id).status == "sent", "it is sent")  # noqa: B023


def by_domain(server: SmtpServer) -> Counter[str]:
    return Counter(recipient.rpartition("@")[2] for recipient in server.counts())


def test_a_domain_at_its_limit_keeps_nobody_else_waiting(db: Db, here: Settings) -> None:
    set_rule(db, "slow.test", per_hour=31, now=db.now_ms())
    people_at(db, {"slow.test": 200, "quick.test": 200, "other.test": 200})
    with SmtpServer() as server:
        add_test_server(server)
        begin_counting(db, here)
        campaign_id = campaign_of(db, here, "all")
        with sending(db, here, threads=3):
            eventually(lambda: len(server.mails) == 431, "the others are sent")
            eventually(lambda: Batch.select().where(Batch.state == "leased").count() == 0, "the rest waits")
        assert by_domain(server) == {"slow.test": 31, "quick.test": 200, "other.test": 200}
    assert states(db, campaign_id) == {"sent": 430, "pending": 170}
    assert Campaign.get_by_id(campaign_id).held_until <= db.now_ms(), "a domain holds no campaign"
    waiting = sorted(b.ready_at for b in Batch.select().where(Batch.state == "ready"))
    assert all(at > db.now_ms() for at in waiting), "each has an appointment"
    assert waiting[-1] - waiting[0] > 1_800_000, "and they do not all come at once"
    assert Recipient.select().where(Recipient.state == "pending", Recipient.attempts > 0).count() == 0


@pytest.mark.parametrize("change", ["raised", "removed"])
def test_who_waits_for_a_domain_goes_when_its_limit_is_raised_or_removed(db: Db, here: Settings, change: str) -> None:
    set_rule(db, "slow.test", per_hour=31, now=db.now_ms())
    people_at(db, {"slow.test": 200})
    with SmtpServer() as server:
        add_test_server(server)
        begin_counting(db, here)
        campaign_id = campaign_of(db, here, "all")
        with sending(db, here, threads=2):
            eventually(lambda: len(server.mails) == 31, "the limit is used")
            eventually(lambda: Batch.select().where(Batch.state == "leased").count() == 0, "the rest waits")
            later = db.now_ms() + 600_000
            assert all(batch.ready_at > later for batch in Batch.select().where(Batch.state == "ready"))
            if change == "raised":
                set_rule(db, "slow.test", per_hour=10_000, now=db.now_ms())
            else:
                unset_rule(db, "slow.test", now=db.now_ms())
            eventually(lambda: Campaign.get_by_id(campaign_id).status == "sent", "the rest is sent")
        assert set(server.counts().values()) == {1}
    assert states(db, campaign_id) == {"sent": 200}


def test_a_domain_is_limited_at_each_server_by_itself(db: Db, here: Settings) -> None:
    set_rule(db, "slow.test", per_hour=31, now=db.now_ms())
    people_at(db, {"slow.test": 100, "quick.test": 100})
    with SmtpServer() as one, SmtpServer() as two:
        limited(one, "one", per_hour=1000)
        add_test_server(two, "two")
        begin_counting(db, here)
        campaign_of(db, here, "all")
        with sending(db, here, threads=2):
            eventually(lambda: len(one.mails) + len(two.mails) == 162, "all that may are sent")
            eventually(lambda: Batch.select().where(Batch.state == "leased").count() == 0, "the rest waits")
        assert [len(server.mails) - by_domain(server)["quick.test"] for server in (one, two)] == [31, 31]


def test_domains_with_a_second_limit_are_sent_in_time(db: Db, here: Settings) -> None:
    set_rule(db, "slow.test", per_second=40, now=db.now_ms())
    people_at(db, {"slow.test": 120, "quick.test": 120})
    with SmtpServer() as server:
        add_test_server(server)
        campaign_id = campaign_of(db, here, "all")
        with sending(db, here, threads=2):
            eventually(lambda: Campaign.get_by_id(campaign_id).status == "sent", "all are sent")
        assert by_domain(server) == {"slow.test": 120, "quick.test": 120}
        assert set(server.counts().values()) == {1}
