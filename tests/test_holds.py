"""Campaigns that may not send now: nobody leases from them, nobody waits for them, and they come back to the moment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from app.campaigns.batches import Lease, campaigns_with_ready, lease_next, new_token
from app.campaigns.holds import Holder
from app.campaigns.housekeeping import (
    FAR_SECONDS,
    HOLD_GRACE_MS,
    TICK_SECONDS,
    Housekeeper,
    next_ready_at,
    ready_batches,
)
from app.campaigns.journal import Journal
from app.campaigns.keeper import LeaseKeeper
from app.clock import since_boot
from app.config import Settings
from app.db import Db
from app.mail.gate import Gate
from app.mail.senders import pause_sender, resume_sender
from app.mail.servers import add_server, release_holds
from app.models.tables import Batch, Campaign, CampaignServer, Server
from tests.schedules.people import SLACK_MS
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.working import eventually

SENDER = "news@shop.test"
REASON = "hour limit of server one"


@pytest.fixture
def campaigns(db: Db, settings: Settings) -> list[int]:
    """Three campaigns of five batches each, over the servers (one, two), (one), (two)."""
    one, two = (add_server(name=name, host="127.0.0.1", port=25, tls="none", now=NOW) for name in ("one", "two"))
    add_list(db, "all", add_people(db, 450))
    made = [draft(db, ["all"], sender=f"X <{sender}>") for sender in (SENDER, SENDER, "other@shop.test")]
    for campaign_id, dropped in ((made[1], two), (made[2], one)):
        CampaignServer.delete().where(
            CampaignServer.campaign_id == campaign_id, CampaignServer.server_id == dropped
        ).execute()
    for campaign_id in made:
        start(db, campaign_id)
        expand(db, settings, campaign_id)
    return made


@pytest.fixture
def gate(db: Db, settings: Settings, redis_server: str) -> Iterator[Gate]:
    gate = Gate(db, redis.Redis.from_url(redis_server))
    yield gate
    gate.close()


def hold(
    db: Db, gate: Gate, campaign_id: int, until: int, blocked: tuple[int, ...] = (), **changes: Any
) -> tuple[bool, list[int]]:
    """Whether it was this call that held the campaign, and the instants at which it wants to be woken."""
    wakes: list[int] = []
    seen = gate.servers(campaign_id, SENDER, known_for=0)
    said: dict[str, Any] = {
        "server": seen[0],
        "limit": True,
        "blocked": blocked,
        "seen": seen,
        "sender": SENDER,
        "has_sent": False,
    }
    return Holder(db, gate, wakes.append).hold(campaign_id, until, REASON, **{**said, **changes}), wakes


def lease(db: Db, now: int, only: int | None = None, leave: tuple[int, ...] = ()) -> Lease | None:
    return lease_next(
        db, token=new_token(), journal="j", only=only, now=now, monotonic=since_boot(), lease_seconds=30, leave=leave
    )


def held_until(campaign_id: int) -> int:
    return int(Campaign.get_by_id(campaign_id).held_until)


def test_nothing_is_leased_from_a_held_campaign_until_the_hold_is_over(
    db: Db, gate: Gate, campaigns: list[int]
) -> None:
    now = db.now_ms()
    for campaign_id in campaigns[:2]:
        assert hold(db, gate, campaign_id, now + 60_000)[0]
    assert campaigns_with_ready(db, now) == {campaigns[2]}
    assert [lease(db, now).campaign_id for _ in range(5)] == [campaigns[2]] * 5  # type: ignore[union-attr]
    assert lease(db, now) is None
    assert lease(db, now, only=campaigns[0]) is None, "a worker of its own neither"
    assert lease(db, now + 59_999) is None
    assert {lease(db, now + 60_000).campaign_id for _ in range(10)} == set(campaigns[:2])  # type: ignore[union-attr]


def test_a_campaign_that_a_thread_leaves_alone_is_others(db: Db, campaigns: list[int]) -> None:
    now = db.now_ms()
    assert lease(db, now, leave=(campaigns[0], campaigns[1])).campaign_id == campaigns[2]  # type: ignore[union-attr]
    assert lease(db, now, leave=tuple(campaigns)) is None
    assert lease(db, now).campaign_id in campaigns[:2]  # type: ignore[union-attr]


def test_a_hold_is_written_once_with_its_reason(
    db: Db, gate: Gate, campaigns: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    now = db.now_ms()
    caplog.set_level("INFO", "mailcrew")
    assert hold(db, gate, campaigns[0], now + 60_000) == (True, [now + 60_000])
    assert hold(db, gate, campaigns[0], now + 90_000) == (False, [])
    assert hold(db, gate, campaigns[0], now + 90_000, has_sent=True) == (False, [now + 90_000])
    campaign = Campaign.get_by_id(campaigns[0])
    assert (campaign.held_until, campaign.held_by) == (now + 60_000, REASON)
    (told,) = [record for record in caplog.records if record.getMessage() == "rate limit"]
    fields: Any = vars(told)["fields"]
    assert (fields["server"], fields["reason"], fields["campaign_id"]) == ("one", REASON, campaigns[0])
    assert fields["free_at"].endswith("+00:00")


def test_short_holds_are_told_of_once_a_minute_and_counted(
    db: Db, gate: Gate, campaigns: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mailcrew")
    holder = Holder(db, gate, lambda _: None)
    for _ in range(5):
        Campaign.update(held_until=0).execute()
        now = db.now_ms()
        assert holder.hold(
            campaigns[0],
            now + 9_000,
            REASON,
            server=None,
            limit=True,
            blocked=(),
            seen=[],
            sender=SENDER,
            has_sent=False,
        )  # fmt: skip
    assert len([record for record in caplog.records if record.getMessage() == "rate limit"]) == 1


def test_those_that_can_use_no_other_server_are_held_too(db: Db, gate: Gate, campaigns: list[int]) -> None:
    both, only_one, only_two = campaigns
    one, two = (int(s.id) for s in Server.select().order_by(Server.id))
    until = db.now_ms() + 60_000
    assert hold(db, gate, only_one, until, (one,))[0]
    assert [held_until(c) for c in campaigns] == [0, until, 0]
    release_holds(db)
    assert hold(db, gate, both, until, (one, two))[0]
    assert [held_until(c) for c in campaigns] == [until] * 3
    release_holds(db)
    Campaign.update(status="paused").where(Campaign.id == only_two).execute()
    Server.update(state="paused").where(Server.id == two).execute()
    assert hold(db, gate, only_one, until, (one,))[0]
    assert [held_until(c) for c in campaigns] == [until, until, 0], "a paused server is no way out"


def test_a_hold_ends_early_when_a_person_changes_something(db: Db, gate: Gate, campaigns: list[int]) -> None:
    one, two = (int(s.id) for s in Server.select().order_by(Server.id))
    until = db.now_ms() + 60_000

    def all_held() -> None:
        Campaign.update(held_until=until, held_by=REASON, queued=1).execute()

    all_held()
    assert release_holds(db, server_id=two) == 2
    assert [held_until(c) for c in campaigns] == [0, until, 0]
    all_held()
    assert release_holds(db, sender=SENDER.upper()) == 2
    assert [held_until(c) for c in campaigns] == [0, 0, until]
    assert [Campaign.get_by_id(c).queued for c in campaigns] == [0, 0, 1]
    all_held()
    assert release_holds(db, server_id=one, sender="other@shop.test") == 0
    assert release_holds(db) == 3
    assert Campaign.get_by_id(campaigns[0]).held_by is None


def test_a_change_that_a_worker_did_not_see_ends_its_hold(db: Db, gate: Gate, campaigns: list[int]) -> None:
    seen = gate.servers(campaigns[0], SENDER, known_for=0)
    Server.update(per_day=9).where(Server.name == "one").execute()
    release_holds(db, server_id=1)
    assert hold(db, gate, campaigns[0], db.now_ms() + 3_600_000, seen=seen)[0]
    assert held_until(campaigns[0]) == 0
    assert Campaign.get_by_id(campaigns[0]).held_by is None


def test_a_campaign_that_is_not_sending_is_not_held(db: Db, gate: Gate, campaigns: list[int]) -> None:
    Campaign.update(status="paused").execute()
    assert hold(db, gate, campaigns[0], db.now_ms() + 60_000) == (False, [])
    assert held_until(campaigns[0]) == 0


# -- tickets -------------------------------------------------------------------------------------


def keep(db: Db, settings: Settings, tickets: list[int]) -> Housekeeper:
    return Housekeeper(
        lambda: db, settings, top_up=tickets.append, capacity=lambda: 16, restart_expansion=lambda _: None,
        close_idle=lambda: None,
    )  # fmt: skip


def test_no_tickets_are_issued_for_held_campaigns(db: Db, settings: Settings, campaigns: list[int]) -> None:
    now = db.now_ms()
    Campaign.update(held_until=now + 60_000).execute()
    tickets: list[int] = []
    assert ready_batches(db, now, 99) == 0
    assert keep(db, settings, tickets).step(0) == TICK_SECONDS
    assert tickets == []
    assert ready_batches(db, now + 60_000, 99) == 15
    Campaign.update(held_until=0).where(Campaign.id == campaigns[0]).execute()
    assert ready_batches(db, now, 99) == 5


def test_everybody_looks_again_shortly_after_a_hold_is_over(
    db: Db, settings: Settings, campaigns: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = db.now_ms()
    monkeypatch.setattr(db, "now_ms", lambda: now)
    Campaign.update(held_until=now + 300).execute()
    Campaign.update(held_until=now + 700).where(Campaign.id == campaigns[0]).execute()
    assert HOLD_GRACE_MS < 100
    assert next_ready_at(db, now) == now + 300 + HOLD_GRACE_MS
    assert next_ready_at(db, now, campaigns[0]) == now + 700 + HOLD_GRACE_MS
    assert 0.02 <= keep(db, settings, []).step(0) <= 0.3 + HOLD_GRACE_MS / 1000
    Batch.update(ready_at=now + 900).execute()
    assert next_ready_at(db, now) == now + 900
    Batch.update(state="done").execute()
    assert next_ready_at(db, now) is None


def test_who_had_work_gets_a_ticket_the_moment_the_hold_is_over(
    db: Db, settings: Settings, campaigns: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A round takes the place of what is issued at its moment, and here each campaign stays held.
    monkeypatch.setattr("app.campaigns.housekeeping.TICK_SECONDS", 600.0)
    Campaign.update(held_until=db.now_ms() + 3_600_000).execute()
    issued: list[tuple[int, int]] = []
    housekeeper = Housekeeper(
        lambda: db, settings, top_up=lambda wanted: issued.append((wanted, db.now_ms())), capacity=lambda: 16,
        restart_expansion=lambda _: None, close_idle=lambda: None,
    )  # fmt: skip
    housekeeper.start()
    eventually(lambda: housekeeper._next_round > 0, "its first round is over")
    at = db.now_ms() + 300
    for instant in (at, at, at + 10_000_000):
        housekeeper.wake_at(instant)
    # Asked for moments apart, so they may be issued in two rounds.
    eventually(lambda: sum(wanted for wanted, _ in issued) >= 2, "tickets are issued")
    housekeeper.close()
    assert sum(wanted for wanted, _ in issued) == 2
    assert all(instant >= at - SLACK_MS for _, instant in issued)
    assert FAR_SECONDS * 1000 < 10_000_000, "of what is far away the rounds take care"


# -- paused senders ------------------------------------------------------------------------------


def test_nothing_is_leased_for_a_paused_sender(db: Db, settings: Settings, campaigns: list[int]) -> None:
    now = db.now_ms()
    pause_sender(db, SENDER, "by hand", now)
    assert campaigns_with_ready(db, now) == {campaigns[2]}
    assert ready_batches(db, now, 99) == 5
    assert [lease(db, now).campaign_id for _ in range(5)] == [campaigns[2]] * 5  # type: ignore[union-attr]
    assert lease(db, now) is None
    assert lease(db, now, only=campaigns[0]) is None
    assert next_ready_at(db, now) is None
    resume_sender(db, SENDER)
    assert lease(db, now).campaign_id in campaigns[:2]  # type: ignore[union-attr]


def test_what_is_in_hand_for_a_paused_sender_is_halted(db: Db, settings: Settings, campaigns: list[int]) -> None:
    journal = Journal.create(settings.journals, 1)
    keeper = LeaseKeeper(db, journal, 30)
    leases = [lease(db, db.now_ms(), only=campaign_id) for campaign_id in campaigns]
    for one in leases:
        assert one is not None
        keeper.hold(one)
    Campaign.update(envelope_sender="News@Shop.test").where(Campaign.id == campaigns[0]).execute()
    pause_sender(db, SENDER, "by hand", db.now_ms())
    keeper.step(since_boot(), time.monotonic())
    assert [one.halted for one in leases if one] == [True, True, False]
    journal.close(remove=True)
