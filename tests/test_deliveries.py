"""What was tried is counted by server, minute and campaign, once, in the transaction that writes the outcomes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from app.campaigns.batches import Lease, lease_next, new_token
from app.campaigns.journal import Journal, MailState
from app.campaigns.mails import mails_of
from app.campaigns.outcomes import Outcome, write_outcomes
from app.campaigns.sweep import sweep
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.models.states import RecipientState
from tests.sending import NOW, add_list, add_people, add_test_server, draft, expand, send_all, start
from tests.smtp_faults import drop, first_of, on, reply
from tests.smtp_server import SmtpServer

MINUTE = 60_000
FIRST = NOW // MINUTE
EVERY = (RecipientState.SENT, RecipientState.FAILED, RecipientState.PENDING, RecipientState.UNKNOWN)


def counted(db: Db) -> list[tuple[int, ...]]:
    """(server, minute, campaign, attempts, sent, failed, deferred, unknown) of each row."""
    return db.rows("SELECT * FROM deliveries ORDER BY server_id, minute, campaign_id")


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    for number in range(3):
        add_server(name=f"server{number}", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 800))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def lease(db: Db, journal: str = "j") -> Lease:
    found = lease_next(
        db, token=new_token(), journal=journal, only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=1
    )
    assert found is not None
    return found


def ids(db: Db, held: Lease) -> list[int]:
    return [mail.subscriber_id for mail in mails_of(db, held)]


def write(db: Db, held: Lease, outcomes: list[Outcome]) -> bool:
    return write_outcomes(db, held.campaign_id, held.number, held.token, outcomes, now=NOW, ready_at=NOW)


def test_each_state_is_counted_where_and_when_it_was_tried(db: Db, campaign: int) -> None:
    held = lease(db)
    who = ids(db, held)
    outcomes = [Outcome(who[i], EVERY[i % 4], 1 + i % 2, "x", NOW + MINUTE * (i % 3)) for i in range(24)]
    # Not tried by any server: skipped, failed before anybody was asked, died while being composed.
    outcomes += [
        Outcome(who[24], RecipientState.SKIPPED, None, "left", NOW, False),
        Outcome(who[25], RecipientState.FAILED, None, "no address", NOW, False),
        Outcome(who[26], RecipientState.PENDING, None, "", NOW, False, crashed=True),
    ]
    assert write(db, held, outcomes)
    assert counted(db) == [
        (server, FIRST + minute, campaign, 4, *row)
        for server, row in ((1, (2, 0, 2, 0)), (2, (0, 2, 0, 2)))
        for minute in range(3)
    ]


def test_what_comes_later_is_added(db: Db, campaign: int) -> None:
    for _ in range(3):
        held = lease(db)
        assert write(db, held, [Outcome(i, RecipientState.SENT, 2, "250 ok", NOW) for i in ids(db, held)])
    assert counted(db) == [(2, FIRST, campaign, 300, 300, 0, 0, 0)]


def test_nothing_is_counted_twice_when_an_answer_was_lost(db: Db, campaign: int) -> None:
    held = lease(db)
    outcomes = [Outcome(i, RecipientState.SENT, 1, "250 ok", NOW) for i in ids(db, held)]
    assert write(db, held, outcomes)
    assert not write(db, held, outcomes)
    assert counted(db) == [(1, FIRST, campaign, 100, 100, 0, 0, 0)]


def test_a_rolled_back_outcome_is_not_counted(db: Db, campaign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    held = lease(db)
    outcomes = [Outcome(i, RecipientState.SENT, 1, "250 ok", NOW) for i in ids(db, held)]
    with pytest.raises(RuntimeError), db.transaction():
        write(db, held, outcomes)
        raise RuntimeError
    assert counted(db) == []


def test_the_sweep_counts_what_a_dead_worker_had_tried(db: Db, settings: Settings, campaign: int) -> None:
    tried = db.now_ms() - 10 * MINUTE
    journal = Journal.create(settings.journals, 1)
    slot = journal.slots[0]
    token = new_token()
    slot.open(token)
    held = lease_next(db, token=token, journal=journal.name, only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=1)
    assert held is not None
    slot.fill(campaign, held.number, ids(db, held))
    slot.over(3)
    slot.record(0, MailState.SENT, 3, tried, True, "250 ok")
    slot.record(1, MailState.FAILED, 3, tried, True, "550 no")
    slot.record(2, MailState.DEFERRED, 2, tried, True, "450 later")
    slot.record(3, MailState.SKIPPED, 0, tried, False, "left")
    slot.mark(4, MailState.SENDING)
    slot.mark(5, MailState.COMPOSING)
    journal.close(remove=False)
    now = db.now_ms() + 60_000
    sweep(db, settings.journals, now, 30, lambda _: None)
    assert counted(db) == [
        (2, tried // MINUTE, campaign, 1, 0, 0, 1, 0),
        (3, tried // MINUTE, campaign, 2, 1, 1, 0, 0),
        (3, now // MINUTE, campaign, 1, 0, 0, 0, 1),
    ]
    server = db.value("SELECT server_id FROM recipients WHERE state = 'unknown'")
    assert server == 3, "the one that may have it"


def test_eight_that_write_at_once_do_not_stand_in_each_others_way(db: Db, campaign: int) -> None:
    leases = [lease(db) for _ in range(8)]
    minutes = range(4)
    ready = threading.Barrier(8)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        held = leases[number]
        outcomes = [
            Outcome(who, RecipientState.SENT, 1 + (number + i) % 3, "250 ok", NOW + MINUTE * (i * number % 4))
            for i, who in enumerate(ids(db, held))
        ]
        ready.wait()
        try:
            assert write(db, held, outcomes)
        except BaseException as error:
            errors.append(error)
        finally:
            db.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    rows = counted(db)
    assert sum(row[3] for row in rows) == sum(row[4] for row in rows) == 800
    assert {row[1] - FIRST for row in rows} == set(minutes)


def test_a_campaign_over_smtp_is_counted(db: Db, settings: Settings) -> None:
    plan = first_of(
        on("RCPT", reply("550 5.1.1 no such user"), recipient="p3@example.test"),
        on("RCPT", reply("450 4.2.0 later"), recipient="p4@example.test"),
        on("DOT", drop(), recipient="p50@example.test"),
    )
    with SmtpServer(plan=plan) as server:
        server_id = add_test_server(server)
        add_list(db, "all", add_people(db, 250))
        campaign_id = draft(db, ["all"])
        start(db, campaign_id)
        expand(db, settings, campaign_id)
        send_all(db, settings, threads=3)
    totals: Any = db.row(
        "SELECT SUM(attempts), SUM(sent), SUM(failed), SUM(deferred), SUM(unknown) FROM deliveries "
        "WHERE server_id = ? AND campaign_id = ?", server_id, campaign_id,
    )  # fmt: skip
    assert [int(total) for total in totals] == [250, 247, 1, 1, 1]
