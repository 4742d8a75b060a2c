"""Leases are kept up while their sender moves, and halted when they are no longer to be used."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from app.campaigns.batches import Lease, lease_next, new_token
from app.campaigns.journal import Journal, read_owner
from app.campaigns.keeper import TICK_SECONDS, Held, LeaseKeeper
from app.clock import since_boot
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.models.tables import Batch, Campaign
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.working import eventually

SECONDS = 30


@pytest.fixture
def journal(settings: Settings) -> Iterator[Journal]:
    journal = Journal.create(settings.journals, 1)
    yield journal
    journal.close(remove=True)


@pytest.fixture
def keeper(db: Db, settings: Settings, journal: Journal) -> LeaseKeeper:
    """A keeper for a campaign of two batches."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 150))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return LeaseKeeper(db, journal, SECONDS)


def leased(db: Db, monotonic: float = 1000.0) -> Lease:
    lease = lease_next(
        db, token=new_token(), journal="j", only=None, now=db.now_ms() - 60_000, monotonic=monotonic,
        lease_seconds=SECONDS,
    ) or lease_next(
        db, token=new_token(), journal="j", only=None, now=db.now_ms(), monotonic=monotonic, lease_seconds=SECONDS
    )  # fmt: skip
    assert lease is not None
    return lease


def until(db: Db, lease: Lease) -> int:
    return int(db.value("SELECT lease_until FROM batches WHERE number = ?", lease.number) or 0)


def test_a_young_lease_is_left_alone_and_an_older_one_renewed(db: Db, keeper: LeaseKeeper) -> None:
    lease = leased(db)
    keeper.hold(lease)
    first, deadline = until(db, lease), lease.deadline
    keeper.step(1000.0 + SECONDS / 3 - 1, 0.0)
    assert (until(db, lease), lease.deadline) == (first, deadline)
    time.sleep(0.01)
    keeper.step(1000.0 + SECONDS / 3 + 1, 0.0)
    assert until(db, lease) > first
    assert lease.deadline == pytest.approx(1000.0 + SECONDS / 3 + 1 + SECONDS)
    assert not lease.halted


def connected(lease: Lease, deadline: float) -> Held:
    """A lease whose sender waits for a server until `deadline`."""
    connection: Any = SimpleNamespace(deadline=deadline)
    return Held(lease, connection)


def test_a_sender_within_its_deadline_is_alive_and_one_past_it_is_not(db: Db, keeper: LeaseKeeper) -> None:
    lease = leased(db)
    assert connected(lease, 1000.0).alive(1000.0)
    assert connected(lease, 1000.0).alive(1000.0 + TICK_SECONDS / 2)
    assert not connected(lease, 1000.0).alive(1000.0 + TICK_SECONDS)
    assert Held(lease).alive(10**9), "between two connections"


def test_the_lease_of_a_stuck_sender_runs_out(db: Db, keeper: LeaseKeeper) -> None:
    lease = leased(db)
    held = keeper.hold(lease)
    held.connection = connected(lease, 1005.0).connection
    before = until(db, lease)
    keeper.step(1029.0, 1029.0)
    assert (until(db, lease), lease.deadline) == (before, 1030.0)


@pytest.mark.parametrize("status", ["paused", "cancelled", "failed"])
def test_a_campaign_that_is_no_longer_sending_halts_its_leases(db: Db, keeper: LeaseKeeper, status: str) -> None:
    lease, other = leased(db), leased(db)
    keeper.hold(lease)
    keeper.let_go(keeper.hold(other))
    Campaign.update(status=status).execute()
    keeper.step(1001.0, 0.0)
    assert lease.halted
    assert not other.halted, "not in hand any more"


def test_a_lease_that_someone_else_settled_is_halted(db: Db, keeper: LeaseKeeper) -> None:
    lease = leased(db)
    keeper.hold(lease)
    Batch.update(token="0" * 32).where(Batch.number == lease.number).execute()
    keeper.step(1015.0, 0.0)
    assert lease.halted
    assert Batch.get(Batch.number == lease.number).token == "0" * 32


def test_a_lease_that_ran_out_while_the_machine_slept_is_renewed_only_if_nobody_settled_it(
    db: Db, keeper: LeaseKeeper
) -> None:
    lease, taken = leased(db), leased(db)
    keeper.hold(lease)
    keeper.hold(taken)
    Batch.update(state="done").where(Batch.number == taken.number).execute()
    keeper.step(1000.0 + 7200, 1001.0)
    assert (lease.halted, taken.halted) == (False, True)
    assert lease.deadline == 1000.0 + 7200 + SECONDS
    assert taken.deadline == 1000.0 + SECONDS


def test_a_settled_lease_is_halted_at_the_next_look_however_young_it_is(db: Db, keeper: LeaseKeeper) -> None:
    lease = leased(db)
    keeper.hold(lease)
    Batch.update(state="ready", token=None).where(Batch.number == lease.number).execute()
    keeper.step(1001.0, 1001.0)
    assert lease.halted


def test_its_threads_renew_beat_and_end(db: Db, keeper: LeaseKeeper, journal: Journal, settings: Settings) -> None:
    lease = leased(db, since_boot() - SECONDS / 2)
    keeper.hold(lease)
    before = until(db, lease)
    keeper.start()
    eventually(lambda: until(db, lease) > before, "the lease is renewed")
    owner = settings.journals / journal.name
    eventually(lambda: read_owner(owner).silent_seconds < TICK_SECONDS, "it beats")
    keeper.close()
