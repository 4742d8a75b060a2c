"""Which server is next: by weight, near the open connection, none that is no use now; and who gets a connection."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.campaigns.delivery import NO_SERVER
from app.config import Settings
from app.db import Db
from app.mail.cooldown import Trouble
from app.mail.limits import Connections, Limits
from app.mail.server_changes import pause_server
from app.mail.servers import Usable
from app.mail.slots import ConnectionSlots
from app.mail.stride import AFFINITY, Stride
from app.mail.transport import ServerAddress
from app.models.tables import Campaign, CampaignServer, Server
from app.queues.broker import redis_client
from tests.sending import (
    add_test_server,
    campaign_to,
    own_redis,
    send_all,
    sending,
)
from tests.smtp_faults import Event, Fault
from tests.smtp_server import SmtpServer
from tests.working import eventually


def usable(id_: int, weight: int = 1) -> Usable:
    address = ServerAddress("h", 25)
    return Usable(id_, f"s{id_}", address, weight, Limits(), None, "a@x.test", Trouble(), Trouble(), None)


def send_over(stride: Stride, servers: Sequence[Usable], mails: int, batch: int = 100) -> Counter[int]:
    """What a thread does that finds all servers free; how many mails each got."""
    got: Counter[int] = Counter()
    connected: set[int] = set()
    while got.total() < mails:
        first = stride.order(servers, connected)[0]
        connected.add(first.id)
        stride.sent(first, batch)
        got[first.id] += batch
    return got


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 200))
def test_servers_get_their_share_by_weight(weights: list[int], batch: int) -> None:
    servers = [usable(number, weight) for number, weight in enumerate(weights, 1)]
    total = 400 * batch * len(weights)
    got = send_over(Stride(), servers, total, batch)
    for server in servers:
        share = total * server.weight / sum(weights)
        assert abs(got[server.id] - share) <= (AFFINITY + batch) * (2 + server.weight) + batch


def test_the_open_connection_is_preferred_for_a_while() -> None:
    stride, servers = Stride(), [usable(1), usable(2)]
    stride.sent(servers[1], 5)
    for sent in range(0, AFFINITY, 10):
        assert stride.order(servers, {2})[0].id == 2, sent
        stride.sent(servers[1], 10)
    assert stride.order(servers, {2})[0].id == 1


def test_a_server_that_was_away_has_nothing_to_catch_up() -> None:
    stride, servers = Stride(), [usable(1), usable(2), usable(3, weight=2)]
    send_over(stride, servers[:2], 50_000)
    got = send_over(stride, servers, 8_000)
    assert got[1] == pytest.approx(2000, abs=300)
    assert got[2] == pytest.approx(2000, abs=300)
    assert got[3] == pytest.approx(4000, abs=500)


def test_equal_servers_are_not_all_begun_with_the_first() -> None:
    servers = [usable(1), usable(2), usable(3)]
    assert {Stride().order(servers, ())[0].id for _ in range(200)} == {1, 2, 3}


# -- with real servers ---------------------------------------------------------------------------


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Iterator[Settings]:
    with own_redis(settings, redis_server, 10) as here:
        yield here


def test_three_servers_are_used_by_their_weights(db: Db, here: Settings) -> None:
    with SmtpServer() as one, SmtpServer() as two, SmtpServer() as three:
        for server, name, weight in ((one, "one", 1), (two, "two", 2), (three, "three", 3)):
            Server.update(weight=weight).where(Server.id == add_test_server(server, name)).execute()
        campaign_to(db, here, 6000)
        assert send_all(db, here, threads=2) == 6000
        got = [len(server.mails) for server in (one, two, three)]
    assert got == [pytest.approx(1000, abs=500), pytest.approx(2000, abs=700), pytest.approx(3000, abs=900)]


def test_a_server_that_is_paused_gets_nothing_and_without_any_the_campaign_waits(db: Db, here: Settings) -> None:
    with SmtpServer() as one, SmtpServer() as two:
        add_test_server(one, "one")
        add_test_server(two, "two")
        Server.update(state="paused").where(Server.name == "one").execute()
        campaign_to(db, here, 250)
        assert send_all(db, here, threads=2) == 250
        assert (len(one.mails), len(two.mails)) == (0, 250)
        Server.update(state="paused").execute()
        waiting = campaign_to(db, here, 10, "more")
        assert send_all(db, here) == 0
    campaign = Campaign.get_by_id(waiting)
    assert (campaign.held_by, campaign.held_until > db.now_ms()) == (NO_SERVER, True)


def test_a_server_gets_no_more_connections_than_it_may_have(db: Db, here: Settings) -> None:
    def slowly(event: Event) -> Fault | None:
        return Fault(delay=0.002) if event.verb == "DOT" else None

    with SmtpServer(plan=slowly) as narrow:
        Server.update(max_connections=2).where(Server.id == add_test_server(narrow, "narrow")).execute()
        campaign_to(db, here, 1500)
        with sending(db, here, threads=3), sending(db, here, threads=3):
            eventually(lambda: len(narrow.mails) == 1500, "all are sent", 90)
            assert narrow.most_open <= 2
        assert narrow.wait_until_left()
    assert set(narrow.counts().values()) == {1}
    assert Campaign.get().held_by is None, "a limit of connections holds nobody"


def test_a_thread_that_gets_no_connection_sends_another_campaign(db: Db, here: Settings) -> None:
    go_on = threading.Event()

    def held_back(event: Event) -> None:
        if event.verb == "DOT" and event.count == 20:
            go_on.wait(100)

    with SmtpServer(plan=held_back) as narrow, SmtpServer() as wide:
        narrow_id = add_test_server(narrow, "narrow")
        Server.update(max_connections=1).where(Server.id == narrow_id).execute()
        slow = campaign_to(db, here, 800, "slow")
        add_test_server(wide, "wide")
        quick = campaign_to(db, here, 2000, "quick", servers=["wide"])
        assert CampaignServer.select().where(CampaignServer.campaign_id == slow).count() == 1
        with sending(db, here, threads=3):
            eventually(lambda: Campaign.get_by_id(quick).status == "sent", "the quick one is sent")
            assert len(narrow.mails) < 800, "and the slow one is not"
            go_on.set()
            eventually(lambda: Campaign.get_by_id(slow).status == "sent", "the slow one too")
    assert narrow.most_open == 1


def test_connections_are_given_back_when_there_is_nothing_to_send(db: Db, here: Settings) -> None:
    with SmtpServer() as narrow:
        Server.update(max_connections=1).where(Server.id == add_test_server(narrow, "narrow")).execute()
        with sending(db, here, threads=2), sending(db, here, threads=2):
            for number in range(3):
                campaign_id = campaign_to(db, here, 20, f"all{number}")
                eventually(lambda: Campaign.get_by_id(campaign_id).status == "sent", "it is sent")  # noqa: B023
                assert narrow.wait_until_left(), "nobody else could use it"


def test_a_server_that_is_paused_in_the_middle_of_a_batch_gets_no_more_of_it(db: Db, here: Settings) -> None:
    def slowly(event: Event) -> Fault | None:
        return Fault(delay=0.02) if event.verb == "DOT" else None

    with SmtpServer(plan=slowly) as one, SmtpServer(plan=slowly) as two:
        add_test_server(one, "one")
        campaign_id = campaign_to(db, replace(here, send_batch_size=1000), 1000)
        with sending(db, here, threads=1):
            eventually(lambda: len(one.mails) > 20, "the only batch is being sent")
            server_id = add_test_server(two, "two")
            CampaignServer.create(campaign_id=campaign_id, server_id=server_id)
            assert pause_server(db, "one")
            # Where its next mails go shows that it has been left.
            eventually(lambda: len(two.mails) > 0, "the other one goes on")
            left = len(one.mails)
            eventually(lambda: len(two.mails) > 20, "for some time")
            assert len(one.mails) == left < 1000
            Server.update(per_hour=1).where(Server.id == server_id).execute()
            eventually(lambda: "limit" in str(Campaign.get_by_id(campaign_id).held_by), "a new limit is felt")
        assert len(two.mails) < 500
        assert one.violations == two.violations == []


def test_a_slot_that_another_worker_has_taken_meanwhile_is_not_ours_any_more(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only this test renews.
    monkeypatch.setattr("app.mail.slots.RENEW_SECONDS", 3600)
    client = redis_client(here.redis_url)
    first, second = (ConnectionSlots(Connections(client)) for _ in range(2))
    mine = first.take(1, 1)
    assert mine is not None
    assert second.take(1, 1) is None
    first.renew()
    assert first.kept(mine)
    client.flushdb()
    first.renew()
    assert second.take(1, 1) is None, "whoever is connected says so again"
    client.flushdb()
    theirs = second.take(1, 1)
    assert theirs is not None
    first.renew()
    assert (first.kept(mine), second.kept(theirs)) == (False, True)
    first.release(mine)
    assert first.take(1, 1) is None, "what is not ours is not given back"
    second.release(theirs)
    again = first.take(1, 1)
    assert again is not None
    first.release(again)
    for slots in (first, second):
        slots.close()
    client.close()
