"""Housekeeping: tickets in time, the sweep now and then, and no error ends it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from app.campaigns.housekeeping import SWEEP_SECONDS, TICK_SECONDS, Housekeeper, next_ready_at, ready_batches
from app.campaigns.journal import boot_id, host_name
from app.config import Settings
from app.db import Db
from app.errors import Unavailable
from app.mail.servers import add_server
from app.models.tables import Batch, Campaign, Expansion
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.working import eventually


class Told:
    """What housekeeping asked others to do."""

    def __init__(self) -> None:
        self.tickets: list[int] = []
        self.expansions: list[int] = []
        self.idle = 0

    def close_idle(self) -> None:
        self.idle += 1


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """A campaign of five ready batches."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 450))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def keep(
    db: Db, settings: Settings, told: Told, capacity: int = 16, top_up: Callable[[int], object] | None = None
) -> Housekeeper:
    return Housekeeper(
        lambda: db, settings,
        top_up=top_up or told.tickets.append, capacity=lambda: capacity,
        restart_expansion=told.expansions.append, close_idle=told.close_idle,
    )  # fmt: skip


def test_there_is_a_ticket_for_every_ready_batch_but_no_more_than_can_be_used(
    db: Db, settings: Settings, campaign: int
) -> None:
    told = Told()
    keep(db, settings, told, capacity=16).step(0)
    keep(db, settings, told, capacity=3).step(0)
    Batch.update(state="done").where(Batch.number > 2).execute()
    keep(db, settings, told).step(0)
    assert told.tickets == [5, 3, 2]


@pytest.mark.parametrize("status", ["paused", "cancelled", "sent", "failed"])
def test_a_campaign_that_is_not_sending_gets_no_tickets(db: Db, settings: Settings, campaign: int, status: str) -> None:
    Campaign.update(status=status).execute()
    told = Told()
    assert keep(db, settings, told).step(0) == TICK_SECONDS
    assert told.tickets == []
    assert (ready_batches(db, db.now_ms(), 9), next_ready_at(db, 0)) == (0, None)


def test_it_wakes_when_the_next_batch_becomes_ready(
    db: Db, settings: Settings, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = db.now_ms()
    monkeypatch.setattr(db, "now_ms", lambda: now)
    Batch.update(ready_at=now + 400).execute()
    Batch.update(ready_at=now + 60_000).where(Batch.number == 1).execute()
    told = Told()
    assert 0.02 <= keep(db, settings, told).step(0) <= 0.4
    assert told.tickets == []
    assert next_ready_at(db, now) == now + 400
    assert ready_batches(db, now + 400, 99) == 4
    Batch.update(ready_at=now + 60_000).execute()
    assert keep(db, settings, told).step(0) == TICK_SECONDS


def test_the_sweep_runs_now_and_then_and_restarts_an_expansion_nobody_works_on(
    db: Db, settings: Settings, campaign: int
) -> None:
    told = Told()
    housekeeper = keep(db, settings, told)
    Expansion.update(state="running", lease_until=0, updated_at=0).execute()
    for monotonic in (0.0, 1.0, SWEEP_SECONDS - 1, SWEEP_SECONDS, SWEEP_SECONDS + 1):
        housekeeper.step(monotonic)
    assert told.expansions == [campaign]
    assert told.idle == 2


@pytest.mark.parametrize(
    "error",
    [redis.ConnectionError("gone"), redis.OutOfMemoryError("OOM"), Unavailable("no"), ValueError("bad"), OSError("x")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_one_round_does_not_end_housekeeping(
    db: Db, settings: Settings, campaign: int, error: Exception
) -> None:
    told = Told()
    errors = [error]

    def top_up(wanted: int) -> None:
        if errors:
            raise errors.pop()
        told.tickets.append(wanted)

    housekeeper = keep(db, settings, told, top_up=top_up)
    housekeeper.start()
    eventually(lambda: told.tickets, "the next round works")
    housekeeper.close()


def test_one_journal_that_cannot_be_read_does_not_keep_the_others_from_being_settled(
    db: Db, settings: Settings, campaign: int
) -> None:
    mine = f"{host_name()}~{boot_id()}"
    (settings.journals / f"{mine}~1~bad.journal").mkdir()
    Batch.update(state="leased", token="1" * 32, journal=f"{mine}~1~bad.journal", lease_until=1).where(
        Batch.number == 1
    ).execute()
    Batch.update(state="leased", token="2" * 32, journal=f"{mine}~2~gone.journal", lease_until=2).where(
        Batch.number == 2
    ).execute()
    told = Told()
    try:
        keep(db, settings, told).step(0)
    except OSError:
        pass  # the thread goes on, see above
    assert Batch.get(Batch.number == 2).state == "done"
    assert Batch.get(Batch.number == 1).state == "leased", "nothing is known of it, so nothing of it may be sent"
