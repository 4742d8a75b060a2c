"""The sweep settles what dead workers left: as recorded, untried ready again, in doubt unknown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from app.campaigns.batches import Lease, lease_next, new_token
from app.campaigns.journal import Journal, MailState, Slot, read_owner
from app.campaigns.mails import mails_of
from app.campaigns.outcomes import MAX_CRASHES, Outcome, write_outcomes
from app.campaigns.sweep import sweep
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.models.counters import Counted, counted_so_far
from app.models.states import RecipientState
from app.models.tables import Batch, Campaign, Recipient
from tests.sending import add_list, add_people, draft, expand, start
from tests.working import eventually


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """Ten people in one ready batch."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=1)
    add_list(db, "all", add_people(db, 10))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def take(db: Db, journal: Journal) -> tuple[Lease, Slot]:
    slot, token = journal.slots[0], new_token()
    slot.open(token)
    lease = lease_next(
        db, token=token, journal=journal.name, only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30
    )
    assert lease is not None
    slot.fill(lease.campaign_id, lease.number, [mail.subscriber_id for mail in mails_of(db, lease)])
    return lease, slot


def run_sweep(db: Db, settings: Settings, seconds_later: int = 31) -> None:
    sweep(db, settings.journals, db.now_ms() + seconds_later * 1000, settings.lease_seconds, lambda _: None)


def states(db: Db) -> list[str]:
    return [str(row[0]) for row in db.rows("SELECT state FROM recipients ORDER BY subscriber_id")]


def test_a_dead_workers_batch_is_settled_as_its_journal_says(db: Db, settings: Settings, campaign: int) -> None:
    journal = Journal.create(settings.journals, 1)
    _, slot = take(db, journal)
    slot.record(0, MailState.SENT, 1, 1000, True, "250 ok")
    slot.record(1, MailState.FAILED, 1, 1000, True, "550 no")
    slot.record(2, MailState.DEFERRED, 1, 1000, True, "450 later")
    slot.record(3, MailState.SKIPPED, 0, 1000, False, "subscriber is deleted")
    slot.record(4, MailState.IN_DOUBT, 1, 1000, True, "line lost")
    slot.mark(5, MailState.SENDING)
    slot.mark(6, MailState.COMPOSING)
    journal.close(remove=False)
    run_sweep(db, settings)
    assert states(db) == ["sent", "failed", "pending", "skipped", "unknown", "unknown"] + ["pending"] * 4
    rows = list(Recipient.select().order_by(Recipient.subscriber_id))
    assert [r.attempts for r in rows[:4]] == [1, 1, 1, 0]
    assert rows[6].crashes == 1
    batch = Batch.get(Batch.campaign_id == campaign)
    assert (batch.state, batch.pending, batch.sent, batch.failed, batch.skipped, batch.unknown) == (
        "ready",
        5,
        1,
        1,
        1,
        2,
    )
    counted = counted_so_far(db)
    assert counted[Counted.LEASES_RECOVERED] == {"": 1}
    assert counted[Counted.MAILS_RECOVERED] == {"recorded": 5, "unknown": 2}
    run_sweep(db, settings)
    assert list(settings.journals.iterdir()) == [], "a journal nobody needs is removed"


def test_a_lease_that_ran_out_is_left_alone_while_its_owner_lives(db: Db, settings: Settings, campaign: int) -> None:
    journal = Journal.create(settings.journals, 1)
    take(db, journal)
    run_sweep(db, settings, seconds_later=3600)
    assert Batch.get(Batch.campaign_id == campaign).state == "leased"
    journal.close(remove=True)


def test_a_lease_taken_right_before_the_death_is_ready_again(db: Db, settings: Settings, campaign: int) -> None:
    journal = Journal.create(settings.journals, 1)
    token = new_token()
    journal.slots[0].open(token)
    assert lease_next(
        db, token=token, journal=journal.name, only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30
    )
    journal.close(remove=False)
    run_sweep(db, settings)
    assert states(db) == ["pending"] * 10
    assert Batch.get(Batch.campaign_id == campaign).state == "ready"


def test_a_slot_that_speaks_of_another_lease_says_nothing_of_this_one(
    db: Db, settings: Settings, campaign: int
) -> None:
    journal = Journal.create(settings.journals, 1)
    lease, slot = take(db, journal)
    write_outcomes(
        db, lease.campaign_id, lease.number, lease.token, [], now=db.now_ms(), ready_at=0
    )  # ended, but the slot was not cleared yet
    slot.mark(0, MailState.SENT)
    other = Journal.create(settings.journals, 1)
    again, _ = take(db, other)
    other.close(remove=False)
    journal.close(remove=False)
    run_sweep(db, settings)
    assert states(db) == ["pending"] * 10
    assert again.token != lease.token


def test_a_lost_journal_makes_everything_of_its_lease_unknown(db: Db, settings: Settings, campaign: int) -> None:
    journal = Journal.create(settings.journals, 1)
    take(db, journal)
    journal.close(remove=True)
    run_sweep(db, settings)
    assert states(db) == ["unknown"] * 10
    assert Campaign.get_by_id(campaign).status == "sent"


def test_an_owner_who_speaks_after_all_may_only_turn_unknown_into_the_truth(
    db: Db, settings: Settings, campaign: int
) -> None:
    journal = Journal.create(settings.journals, 1)
    lease, _ = take(db, journal)
    journal.close(remove=True)
    run_sweep(db, settings)
    ids = [int(row[0]) for row in db.rows("SELECT subscriber_id FROM recipients ORDER BY subscriber_id")]
    late = [
        Outcome(ids[0], RecipientState.SENT, 1, "250 ok", 5),
        Outcome(ids[1], RecipientState.FAILED, 1, "550 no", 5),
        Outcome(ids[2], RecipientState.PENDING, 1, "450 later", 5),
    ]
    for _ in range(2):
        assert not write_outcomes(db, campaign, lease.number, lease.token, late, now=6, ready_at=6)
    assert states(db) == ["sent", "failed"] + ["unknown"] * 8
    batch = Batch.get(Batch.campaign_id == campaign)
    assert (batch.sent, batch.failed, batch.unknown, batch.pending) == (1, 1, 8, 0)


def test_outcomes_written_twice_count_once(db: Db, settings: Settings, campaign: int) -> None:
    journal = Journal.create(settings.journals, 1)
    lease, _ = take(db, journal)
    outcomes = [Outcome(m.subscriber_id, RecipientState.SENT, 1, "250", 5) for m in mails_of(db, lease)]
    assert write_outcomes(db, campaign, lease.number, lease.token, outcomes, now=6, ready_at=6)
    assert not write_outcomes(db, campaign, lease.number, lease.token, outcomes, now=6, ready_at=6)
    assert Batch.get(Batch.campaign_id == campaign).sent == 10
    assert not any(counted_so_far(db).values()), "who writes for himself recovers nothing"
    journal.close(remove=True)


def test_a_mail_that_kills_its_worker_three_times_fails_and_the_rest_goes_on(
    db: Db, settings: Settings, campaign: int
) -> None:
    for _ in range(MAX_CRASHES):
        journal = Journal.create(settings.journals, 1)
        _, slot = take(db, journal)
        slot.mark(4, MailState.COMPOSING)
        journal.close(remove=False)
        run_sweep(db, settings)
        Batch.update(ready_at=0).execute()
    assert states(db) == ["pending"] * 4 + ["failed"] + ["pending"] * 5
    assert "ended its worker 3 times" in str(Recipient.get(Recipient.state == "failed").reason)


def test_a_worker_stopped_for_longer_than_its_lease_is_ended_and_settled(
    db: Db, settings: Settings, campaign: int
) -> None:
    program = (
        "import sys, time; from pathlib import Path; from app.campaigns.journal import Journal\n"
        f"j = Journal.create(Path({str(settings.journals)!r}), 1); print(j.name, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    Batch.insert(campaign_id=campaign, number=2, state="ready", ready_at=0, pending=0).execute()
    for _ in range(2):
        assert lease_next(
            db, token=new_token(), journal=name, only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=1
        )
    os.kill(process.pid, signal.SIGSTOP)
    later = db.now_ms() + 10_000
    # The beat is written once at the start here, so that a second later the owner counts as stopped.
    eventually(lambda: read_owner(settings.journals / name).silent_seconds > 1, "it is silent")
    assert sweep(db, settings.journals, later, 1, lambda _: None).owners_killed == 1, "once, whatever it has in hand"
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        sweep(db, settings.journals, later, 1, lambda _: None)
    assert process.returncode == -signal.SIGKILL
    process.stdout.close()
    sweep(db, settings.journals, later, 1, lambda _: None)
    assert states(db) == ["pending"] * 10
    assert Batch.get(Batch.campaign_id == campaign).state == "ready"
