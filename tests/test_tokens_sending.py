"""Sending within limits: not a mail more than allowed, nobody waits, and nothing is asked where there is no limit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from app.campaigns.service import SendService
from app.config import Settings
from app.db import Db
from app.models.tables import Batch, Campaign, Recipient, Server
from app.queues.broker import redis_client
from tests.sending import (
    add_test_server,
    campaign_of,
    campaign_to,
    limited,
    own_redis,
    send_all,
    sending,
    states,
)
from tests.smtp_faults import Event, Fault
from tests.smtp_server import SmtpServer
from tests.working import MortalRedis, eventually


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Iterator[Settings]:
    with own_redis(settings, redis_server, 11) as here:
        yield here


def noon_zone() -> str:
    """A zone in which no day ends while a test runs."""
    hours = 12 - time.gmtime().tm_hour
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"


def held_by(campaign_id: int) -> str | None:
    found: str | None = Campaign.get_by_id(campaign_id).held_by
    return found


def test_a_server_gets_as_many_as_it_may_and_the_campaign_waits_for_the_rest(db: Db, here: Settings) -> None:
    with SmtpServer() as server:
        limited(server, "ses-1", per_hour=130)
        campaign_id = campaign_to(db, here, 300)
        with sending(db, here, threads=3):
            eventually(lambda: held_by(campaign_id) == "hour limit of server ses-1", "it is held")
        assert len(server.mails) == 130
    assert states(db, campaign_id) == {"sent": 130, "pending": 170}
    assert Campaign.get_by_id(campaign_id).held_until > db.now_ms() + 3_000_000
    assert {b.state for b in Batch.select()} == {"ready", "done"}
    assert Recipient.select().where(Recipient.state == "pending", Recipient.attempts > 0).count() == 0
    assert set(server.counts().values()) == {1}


@pytest.mark.parametrize("delay", [0.0, 0.03])
def test_a_second_limit_holds_in_every_second_and_is_used(db: Db, here: Settings, delay: float) -> None:
    arrived: list[float] = []

    def note(event: Event) -> Fault | None:
        """A mail counts at the server at some moment between its content and the answer."""
        if event.verb != "DOT":
            return None
        arrived.append(time.monotonic() + delay * (len(arrived) % 3) / 2)
        return Fault(delay=delay)

    with SmtpServer(plan=note) as server:
        limited(server, "ses-1", per_second=50)
        campaign_to(db, here, 300)
        with sending(db, here, threads=3):
            eventually(lambda: Campaign.get().status == "sent", "all are sent")
    assert len(arrived) == 300
    assert max(sum(at <= other < at + 1 for other in arrived) for at in arrived) <= 50
    assert arrived[-1] - arrived[0] >= 4.5


def test_several_servers_together_give_the_sum_of_their_limits(db: Db, here: Settings) -> None:
    with SmtpServer() as one, SmtpServer() as two, SmtpServer() as free:
        limited(one, "one", per_hour=40)
        limited(two, "two", per_day=70, timezone=noon_zone())
        campaign_id = campaign_to(db, here, 400, "p")
        with sending(db, here, threads=2):
            eventually(lambda: len(one.mails) + len(two.mails) == 110, "both gave what they may")
            eventually(lambda: Campaign.get_by_id(campaign_id).held_until > db.now_ms() + 5_000, "it is held")
            add_test_server(free, "free")
            another = campaign_of(db, here, "p")
            eventually(lambda: Campaign.get_by_id(another).status == "sent", "a third one takes the rest")
        assert (len(one.mails), len(two.mails)) == (40, 70)
        assert len(free.mails) == 400


def test_without_limits_redis_is_not_asked_at_all(db: Db, settings: Settings) -> None:
    nowhere = replace(settings, redis_url="unix:///nonexistent/redis.sock")
    with SmtpServer() as server:
        add_test_server(server)
        campaign_to(db, nowhere, 250)
        assert send_all(db, nowhere, threads=3) == 250
    assert len(server.counts()) == 250


def test_when_redis_is_away_only_servers_without_limits_send(db: Db, settings: Settings, tmp_path: Any) -> None:
    nowhere = replace(settings, redis_url="unix:///nonexistent/redis.sock")
    with SmtpServer() as counted, SmtpServer() as free:
        limited(counted, "counted", per_hour=1000)
        waits = campaign_to(db, nowhere, 10, "waits")
        assert send_all(db, nowhere) == 0
        assert held_by(waits) == "Redis does not answer, and limits are counted there"
        assert Campaign.get_by_id(waits).held_until <= db.now_ms() + 1_000
        add_test_server(free, "free")
        campaign_of(db, nowhere, "waits")
        assert send_all(db, nowhere) == 10
        assert (len(counted.mails), len(free.mails)) == (0, 10)


@pytest.mark.slow
def test_a_flushed_redis_lets_nothing_go_that_was_used_up(db: Db, here: Settings) -> None:
    client = redis_client(here.redis_url)
    with SmtpServer() as server:
        limited(server, "ses-1", per_day=200, timezone=noon_zone())
        campaign_id = campaign_to(db, here, 600)
        with sending(db, here, threads=3):
            eventually(lambda: len(server.mails) >= 80, "some are sent")
            client.flushdb()
            eventually(lambda: held_by(campaign_id) == "day limit of server ses-1", "the day is over")
            client.flushdb()
            Campaign.update(held_until=0).execute()
            eventually(lambda: Campaign.get_by_id(campaign_id).held_until > db.now_ms() + 60_000, "again")
        assert 190 <= len(server.mails) <= 200
    client.close()


def test_tokens_that_were_not_used_are_given_back(db: Db, here: Settings) -> None:
    def plan(event: Event) -> Fault | None:
        # The line is cut now and then, with tokens in hand.
        return Fault(drop="before") if event.verb == "MAIL" and event.nth == 9 else None

    with SmtpServer(plan=plan) as server:
        limited(server, "ses-1", per_hour=100)
        campaign_to(db, here, 300)
        with sending(db, here, threads=2):
            eventually(lambda: Campaign.get().held_until > db.now_ms() + 60_000, "the hour is over")
        # An envelope that went out counts, content or not: at most one for each line that was cut.
        assert 100 - server.connections <= len(server.mails) <= 100
    assert set(server.counts().values()) == {1}


def test_a_limit_that_is_raised_is_used_at_once(db: Db, here: Settings) -> None:
    from app.mail.servers import release_holds

    with SmtpServer() as server:
        server_id = limited(server, "ses-1", per_hour=20)
        campaign_id = campaign_to(db, here, 300)
        with sending(db, here, threads=2):
            eventually(lambda: Campaign.get().held_until > db.now_ms() + 60_000, "the hour is over")
            eventually(lambda: len(server.mails) == 20, "it was used")
            Server.update(per_hour=120).where(Server.id == server_id).execute()
            assert release_holds(db, server_id=server_id) == 1
            eventually(lambda: len(server.mails) == 120, "the new limit is used")
            eventually(lambda: Campaign.get_by_id(campaign_id).held_until > db.now_ms() + 60_000, "and kept")
        assert len(server.mails) == 120


def test_a_frozen_redis_holds_up_no_mail_of_a_free_server(db: Db, settings: Settings, tmp_path: Any) -> None:
    with MortalRedis(tmp_path) as frozen, SmtpServer() as counted, SmtpServer() as free:
        here = replace(settings, redis_url=frozen.url)
        limited(counted, "counted", per_hour=1_000_000)
        add_test_server(free, "free")
        campaign_to(db, here, 3000)
        with sending(db, here, threads=2):
            eventually(lambda: len(counted.mails) > 100, "both are used")
            before = len(free.mails)
            frozen.kill()
            eventually(lambda: Campaign.get().status == "sent", "all are sent")
        assert len(free.mails) > before
        assert len(counted.counts()) + len(free.counts()) == 3000


# -- tokens that get too old ---------------------------------------------------------------------


def test_a_mail_whose_tokens_are_too_old_gets_fresh_ones_before_its_content(
    db: Db, here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.mail.gate import Gate

    exchanged: list[int] = []
    exchange: Any = Gate.exchange

    def counting(self: Gate, server: Any, block: Any, wanted: int, late: Any = ()) -> Any:
        exchanged.append(wanted)
        return exchange(self, server, block, wanted, late)

    monkeypatch.setattr(Gate, "exchange", counting)
    # Tokens of a limit by the second are good for 15 ms, and this server takes 30 for each answer.
    with SmtpServer(plan=lambda event: Fault(delay=0.03) if event.verb == "DOT" else None) as server:
        limited(server, "ses-1", per_second=1000)
        campaign_to(db, here, 40)
        with sending(db, here, threads=1):
            eventually(lambda: Campaign.get().status == "sent", "all are sent")
        assert len(exchanged) >= 35
        assert server.violations == []
        assert set(server.counts().values()) == {1}


def test_a_mail_for_which_there_are_no_fresh_tokens_is_not_sent_and_not_lost(
    db: Db, here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.mail.gate import Gate
    from app.mail.limits import Refusal

    refused: list[int] = []
    exchange: Any = Gate.exchange

    def refusing(self: Gate, server: Any, block: Any, wanted: int, late: Any = ()) -> Any:
        if block.expired and len(refused) < 5:
            refused.append(1)
            self.limiter.give_back(block)
            return Refusal(db.now_ms() + 50, "second limit of server ses-1")
        return exchange(self, server, block, wanted, late)

    monkeypatch.setattr(Gate, "exchange", refusing)
    with SmtpServer(plan=lambda event: Fault(delay=0.03) if event.verb == "DOT" else None) as server:
        limited(server, "ses-1", per_second=1000)
        campaign_to(db, here, 40)
        with sending(db, here, threads=1):
            eventually(lambda: Campaign.get().status == "sent", "all are sent")
        assert len(refused) == 5
        assert set(server.abandoned) == {b""}, "no content had begun"
        assert set(server.counts().values()) == {1}
        assert len(server.counts()) == 40
    assert Recipient.select().where(Recipient.attempts != 1).count() == 0


def test_a_service_that_ends_leaves_no_token_taken(db: Db, here: Settings) -> None:
    import threading

    stop = threading.Event()

    def plan(event: Event) -> None:
        if event.recipient == "all10@example.test":
            stop.set()

    with SmtpServer(plan=plan) as server:
        limited(server, "ses-1", per_hour=1000)
        campaign_to(db, here, 100)
        send_all(db, here)
        eventually(lambda: (Campaign.get().held_until or 0) <= db.now_ms(), "no hold of the first batches is left")
        service = SendService(db, here, threads=1, stop=stop)
        service.work()
        service.close()
        gone = len(server.mails)
        assert 0 < gone < 20
    client: Any = redis.Redis.from_url(here.redis_url)
    from app.mail.limits import History, Limiter, Limits, Request

    usage = Limiter(client, History(db)).peek([Request(1, "ses-1", Limits(per_hour=1000))])
    assert gone <= usage[1].used["hour"] <= gone + 1
    client.close()
