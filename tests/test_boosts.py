"""Boosts in the database, and what a worker of one campaign does beside the common ones."""

from __future__ import annotations

import pytest

from actors.campaigns import own_campaign
from app.campaigns.batches import lease_next, new_token
from app.campaigns.boosts import campaign_of, check_boost, drop_boost, forget_ended, is_boosted, queue_of, want_boost
from app.campaigns.housekeeping import Housekeeper
from app.config import Settings
from app.db import Db
from app.errors import NotFound, Refused, UsageError
from app.mail.servers import add_server
from app.models.tables import Campaign
from app.scaling.boost import smtp_ceilings_of
from app.scaling.own_slot import GROUP, leave_own_slot
from app.scaling.table import Queue, parse_table
from tests.sending import NOW, add_list, add_people, draft, expand, start


@pytest.fixture
def campaigns(db: Db, settings: Settings) -> tuple[int, int]:
    """Two sending campaigns of five ready batches each."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    found = []
    for name in ("one", "two"):
        add_list(db, name, add_people(db, 450, prefix=name))
        found.append(draft(db, [name]))
        start(db, found[-1])
        expand(db, settings, found[-1])
    return found[0], found[1]


def test_a_boost_is_wanted_changed_and_dropped(db: Db, campaigns: tuple[int, int]) -> None:
    mine, other = campaigns
    want_boost(db, mine, 3)
    assert check_boost(db, mine, 5) == 3
    want_boost(db, mine, 5)
    assert (is_boosted(db, mine), is_boosted(db, other)) == (True, False)
    drop_boost(db, mine)
    drop_boost(db, mine)
    assert (is_boosted(db, mine), check_boost(db, mine, 1)) == (False, 0)


@pytest.mark.parametrize("status", ["paused", "cancelled", "sent", "failed"])
def test_a_campaign_that_is_not_sending_has_no_boost(db: Db, campaigns: tuple[int, int], status: str) -> None:
    mine, other = campaigns
    want_boost(db, mine, 3)
    want_boost(db, other, 2)
    Campaign.update(status=status).where(Campaign.id == mine).execute()

    assert not is_boosted(db, mine)
    with pytest.raises(Refused, match=f"it is {status}"):
        want_boost(db, mine, 3)

    assert forget_ended(db) == 1
    Campaign.update(status="sending").where(Campaign.id == mine).execute()
    assert (is_boosted(db, mine), is_boosted(db, other)) == (False, True), "resumed without, the other as it was"


def test_what_cannot_be_boosted_is_refused(db: Db, campaigns: tuple[int, int]) -> None:
    mine, _ = campaigns
    for count in (0, -1, 1001):
        with pytest.raises(UsageError, match=f"COUNT={count} is not allowed"):
            check_boost(db, mine, count)
    with pytest.raises(NotFound):
        check_boost(db, 10**6, 1)
    # One more of it may still be made.
    db.run("UPDATE batches SET state = 'done' WHERE campaign_id = ?", mine)
    db.run("UPDATE expansions SET state = 'running' WHERE campaign_id = ?", mine)
    assert check_boost(db, mine, 1) == 0
    db.run("UPDATE expansions SET state = 'done' WHERE campaign_id = ?", mine)
    with pytest.raises(Refused, match="every recipient is done"):
        check_boost(db, mine, 1)


@pytest.mark.parametrize(
    ("queue", "campaign"), [("campaign_18", 18), ("campaign_", None), ("campaign_018", None), ("send", None)]
)
def test_a_queue_says_which_campaign_it_is_of(queue: str, campaign: int | None) -> None:
    assert campaign_of(queue) == campaign
    assert campaign is None or queue_of(campaign) == queue


@pytest.mark.parametrize(
    ("queues", "campaign"), [(["campaign_18"], 18), (["send"], None), (["send", "campaign_18"], None), (["mail"], None)]
)
def test_a_worker_serves_one_campaign_or_all(queues: list[str], campaign: int | None) -> None:
    assert own_campaign(queues) == campaign


def lease(db: Db, only: int | None) -> int:
    found = lease_next(db, token=new_token(), journal="j", only=only, now=db.now_ms(), monotonic=0.0, lease_seconds=30)
    assert found is not None
    return found.campaign_id


def test_a_boost_leaves_the_turns_of_the_common_workers_as_they_were(db: Db, campaigns: tuple[int, int]) -> None:
    mine, other = campaigns
    assert [lease(db, mine) for _ in range(3)] == [mine] * 3
    tags = [(c.served, c.served_from) for c in Campaign.select()]
    assert tags == [(0.0, 0.0), (0.0, 0.0)]

    assert [lease(db, None) for _ in range(4)] == [mine, other, mine, other]


def test_the_housekeeping_of_one_campaign_asks_for_its_batches_only(
    db: Db, settings: Settings, campaigns: tuple[int, int]
) -> None:
    mine, other = campaigns
    db.run("UPDATE batches SET state = 'done' WHERE campaign_id = ? AND number > 2", mine)
    tickets: list[int] = []
    looked: list[Db] = []

    def keep(only: int | None) -> None:
        Housekeeper(
            lambda: db, settings, top_up=tickets.append, capacity=lambda: 16, restart_expansion=lambda _: None,
            close_idle=lambda: None, only=only, look_after=looked.append,
        ).step(0)  # fmt: skip

    for only in (mine, other, None):
        keep(only)
    assert tickets == [2, 5, 7]
    assert looked == [db] * 3


def test_only_the_slot_of_a_campaign_leaves_for_good(settings: Settings) -> None:
    for group in ("send", "send-burst-1", ""):
        assert leave_own_slot(settings, {GROUP: group}) is False
    assert leave_own_slot(settings, {}) is False


def boosted(threads: int) -> Queue:
    found = parse_table(f'[[queue]]\nname = "send"\nthreads = {threads}').queue_of_slot("campaign_1-1")
    assert found is not None
    return found


def test_smtp_servers_are_a_ceiling_when_each_of_them_has_one(db: Db, campaigns: tuple[int, int]) -> None:
    mine, _ = campaigns
    assert smtp_ceilings_of(db, mine, boosted(4)) == ()
    db.run("UPDATE servers SET max_connections = 10")
    assert [ceiling.workers for ceiling in smtp_ceilings_of(db, mine, boosted(4))] == [2]
    assert [ceiling.workers for ceiling in smtp_ceilings_of(db, mine, boosted(64))] == [1]
