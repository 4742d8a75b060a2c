"""Fair sharing by weight, also behind limits: everybody advances, nobody loses his place by waiting for a server."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from app.campaigns.batches import Lease, lease_next, new_token
from app.campaigns.outcomes import Outcome, write_outcomes
from app.config import Settings
from app.db import Db, connect
from app.mail.servers import add_server
from app.models.states import RecipientState
from app.models.tables import Batch, Campaign, CampaignServer
from tests.sending import (
    NOW,
    add_list,
    add_people,
    add_test_server,
    draft,
    expand,
    limited,
    own_redis,
    sending,
    start,
)
from tests.smtp_server import SmtpServer
from tests.working import eventually


@pytest.fixture
def people(db: Db) -> int:
    """A list of 2000 people and the server `slow`; the server's id."""
    add_list(db, "all", add_people(db, 2000))
    return add_server(name="slow", host="127.0.0.1", port=25, tls="none", now=NOW)


def campaign(db: Db, settings: Settings, weight: int = 1, servers: tuple[str, ...] = ("slow",)) -> int:
    campaign_id = draft(db, ["all"], weight=weight, servers=servers)
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def lease(db: Db, leave: tuple[int, ...] = ()) -> Lease:
    found = lease_next(
        db, token=new_token(), journal="j", only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30, leave=leave
    )
    assert found is not None
    return found


def end(db: Db, held: Lease, tried: int) -> None:
    """Write that the first `tried` of a batch were sent; the rest goes back, as when tokens run out."""
    ids = [int(row[0]) for row in db.rows(
        "SELECT subscriber_id FROM recipients WHERE campaign_id = ? AND batch = ? AND state = 'pending' "
        "ORDER BY subscriber_id LIMIT ?", held.campaign_id, held.number, tried,
    )]  # fmt: skip
    outcomes = [Outcome(id_, RecipientState.SENT, 1, "250 ok", NOW) for id_ in ids]
    now = db.now_ms()
    refund = held.refund(len(outcomes))
    assert write_outcomes(
        db, held.campaign_id, held.number, held.token, outcomes, now=now, ready_at=0, refund=refund
    )  # fmt: skip


def test_many_who_lease_at_the_same_moment_take_turns_too(db: Db, settings: Settings, people: int) -> None:
    light, heavy = campaign(db, settings), campaign(db, settings, weight=3)
    together = threading.Barrier(8)
    leases: list[Lease] = []

    def take() -> None:
        own = connect(settings.database_url)
        own.now_ms()
        together.wait()
        leases.append(lease(own))
        own.close()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(held.campaign_id for held in leases) == {light: 2, heavy: 6}
    # As when the server's tokens have to be counted first.
    for held in leases:
        end(db, held, 0)
    tags = [db.value("SELECT served FROM campaigns WHERE id = ?", id_) for id_ in (light, heavy)]
    assert tags == [pytest.approx(0), pytest.approx(0)], "nobody has a start over the other"


def rounds(db: Db, count: int, *, tokens: int, threads: int, rng: random.Random) -> Counter[int]:
    """So many moments at which a server has a few tokens again: threads lease, whoever asks first gets them."""
    sent: Counter[int] = Counter()
    for _ in range(count):
        leases = [lease(db) for _ in range(threads)]
        lucky = leases[0] if rng.random() < 0.7 else rng.choice(leases)
        for held in leases:
            end(db, held, tokens if held is lucky else 0)
        sent[lucky.campaign_id] += tokens
    return sent


@pytest.mark.parametrize("threads", [1, 4])
def test_campaigns_behind_one_limit_advance_by_weight(db: Db, settings: Settings, people: int, threads: int) -> None:
    light, heavy = campaign(db, settings), campaign(db, settings, weight=3)
    sent = rounds(db, 120, tokens=4, threads=threads, rng=random.Random(1))
    assert sent[light] == pytest.approx(120, abs=24)
    assert sent[heavy] == pytest.approx(360, abs=24)


def test_a_faster_server_beside_theirs_does_not_make_them_equal(db: Db, settings: Settings, people: int) -> None:
    add_server(name="fast", host="127.0.0.1", port=25, tls="none", now=NOW)
    light, heavy = campaign(db, settings), campaign(db, settings, weight=3)
    fast = campaign(db, settings, servers=("slow", "fast"))
    sent: Counter[int] = Counter()
    for _ in range(80):
        # Whoever may use the fast server goes on all the time; the slow one has four tokens now and then.
        held = lease(db, leave=(fast,))
        end(db, held, 4)
        sent[held.campaign_id] += 4
        Campaign.update(served=Campaign.served + 100, served_from=Campaign.served).where(Campaign.id == fast).execute()
    assert sent[light] == pytest.approx(80, abs=16)
    assert sent[heavy] == pytest.approx(240, abs=16)


def test_a_light_campaign_beside_ten_heavy_ones_still_advances(db: Db, settings: Settings, people: int) -> None:
    light = campaign(db, settings)
    heavy = [campaign(db, settings, weight=100) for _ in range(10)]
    sent = rounds(db, 60, tokens=5, threads=2, rng=random.Random(2))
    assert sent[light] == 5, "once, for five of its mails weigh as much as 500 of each other"
    assert all(sent[turn] for turn in heavy)
    assert Campaign.get_by_id(light).served < 6, "and it will be again"


def test_a_newcomer_behind_a_slow_server_starts_where_those_are_that_wait_there(
    db: Db, settings: Settings, people: int
) -> None:
    add_server(name="fast", host="127.0.0.1", port=25, tls="none", now=NOW)
    slow, fast = campaign(db, settings), campaign(db, settings, servers=("slow", "fast"))
    Campaign.update(served=50, served_from=40, queued=1).where(Campaign.id == slow).execute()
    Campaign.update(served=9000, served_from=8900, queued=1).where(Campaign.id == fast).execute()
    new_slow, new_both = campaign(db, settings), campaign(db, settings, servers=("slow", "fast"))
    assert tag_at_first_lease(db, new_slow) == 40
    assert tag_at_first_lease(db, new_both) == 8900


def test_where_nobody_waits_a_newcomer_starts_where_the_last_lease_began(
    db: Db, settings: Settings, people: int
) -> None:
    working = campaign(db, settings)
    Campaign.update(served=700, served_from=600, queued=0).where(Campaign.id == working).execute()
    assert tag_at_first_lease(db, campaign(db, settings)) == 600


def tag_at_first_lease(db: Db, campaign_id: int) -> float:
    others = [c.id for c in Campaign.select() if c.id != campaign_id]
    assert lease(db, leave=tuple(others)).campaign_id == campaign_id
    return float(Campaign.get_by_id(campaign_id).served_from)


def test_who_always_has_something_ready_keeps_its_place_and_who_has_not_loses_it(
    db: Db, settings: Settings, people: int
) -> None:
    waiting, other = campaign(db, settings), campaign(db, settings)
    end(db, lease(db), 10)
    end(db, lease(db), 10)
    first = Campaign.get_by_id(waiting)
    assert (first.served, first.queued) == (10, 1)
    Campaign.update(served=5000, served_from=4900).where(Campaign.id == other).execute()
    held = lease(db)
    assert (held.campaign_id, Campaign.get_by_id(waiting).served_from) == (waiting, 10)
    end(db, held, 0)
    # Its last ready batch is leased: from now on nobody knows how long it will have nothing.
    Batch.update(ready_at=NOW * 2).where(Batch.campaign_id == waiting, Batch.number > 1).execute()
    held = lease(db)
    assert (held.campaign_id, Campaign.get_by_id(waiting).queued) == (waiting, 0)
    end(db, held, held.size)
    Batch.update(ready_at=0).where(Batch.campaign_id == waiting).execute()
    assert lease(db, leave=(other,)).campaign_id == waiting
    assert Campaign.get_by_id(waiting).served_from == 4900


def test_what_was_not_tried_is_given_back_exactly_once(db: Db, settings: Settings, people: int) -> None:
    only = campaign(db, settings, weight=4)
    held = lease(db)
    assert Campaign.get_by_id(only).served == 25
    end(db, held, 20)
    assert Campaign.get_by_id(only).served == 5
    # The answer to that commit was lost, and it is written again.
    assert not write_outcomes(db, only, held.number, held.token, [], now=NOW, ready_at=0, refund=20.0)
    assert Campaign.get_by_id(only).served == 5
    boosted = lease_next(
        db, token=new_token(), journal="j", only=only, now=db.now_ms(), monotonic=0.0, lease_seconds=30
    )
    assert boosted is not None
    assert boosted.refund(0) == 0.0, "a worker of its own takes no turns"


# -- with real limits ----------------------------------------------------------------------------


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Iterator[Settings]:
    with own_redis(settings, redis_server, 9) as here:
        yield here


def sent_by(db: Db, campaign_id: int) -> int:
    return int(db.value("SELECT SUM(sent) FROM batches WHERE campaign_id = ?", campaign_id) or 0)


def test_two_campaigns_on_one_limited_server_get_its_tokens_by_weight(db: Db, here: Settings) -> None:
    threads = 3
    add_list(db, "all", add_people(db, 1000))
    with SmtpServer() as server:
        limited(server, "slow", per_second=80)
        light, heavy = campaign(db, here), campaign(db, here, weight=3)
        with sending(db, here, threads=threads):
            eventually(lambda: len(server.mails) >= 800, "enough is sent")
        by_light, by_heavy = sent_by(db, light), sent_by(db, heavy)
        assert by_light + by_heavy == len(server.mails)
        # Start-time fair queuing (Goyal, Vin, Cheng 1996, theorem 1): two who always have something to send are
        # never further apart than one turn of each; here a turn is what every thread has in hand. Equal
        # shares would be 267 apart.
        batch = here.send_batch_size
        assert abs(by_heavy / 3 - by_light) <= threads * (batch + batch / 3)


def test_a_light_campaign_beside_ten_heavy_ones_advances_behind_a_limit(db: Db, here: Settings) -> None:
    add_list(db, "all", add_people(db, 300))
    with SmtpServer() as server:
        limited(server, "slow", per_second=100)
        light = campaign(db, here)
        heavy = [campaign(db, here, weight=100) for _ in range(10)]
        with sending(db, here, threads=2):
            eventually(lambda: all(sent_by(db, turn) for turn in (light, *heavy)), "all of them have begun", 90)


def test_a_small_campaign_on_a_free_server_is_not_kept_back_by_a_big_held_one(db: Db, here: Settings) -> None:
    add_list(db, "all", add_people(db, 1000))
    add_list(db, "few", add_people(db, 150, "few"))
    with SmtpServer() as server, SmtpServer() as free:
        limited(server, "slow", per_hour=20)
        big = campaign(db, here, weight=1000)
        with sending(db, here, threads=2):
            eventually(lambda: len(server.mails) == 20, "the hour's mails are sent")
            add_test_server(free, "free")
            small = draft(db, ["few"], servers=["free"])
            start(db, small)
            expand(db, here, small)
            eventually(lambda: Campaign.get_by_id(small).status == "sent", "the small one is sent")
            reason = "hour limit of server slow"
            eventually(lambda: Campaign.get_by_id(big).held_by == reason, "the big one is held")
    assert CampaignServer.select().where(CampaignServer.campaign_id == small).count() == 1
    assert sent_by(db, big) == 20
