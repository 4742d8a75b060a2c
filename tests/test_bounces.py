"""Permanent refusals are counted beside the subscriber, each exactly once; at the limit nobody mails them any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app import config
from app.campaigns.batches import Lease, lease_next, new_token
from app.campaigns.bounces import is_refusal, note_bounces
from app.campaigns.journal import Journal, MailState
from app.campaigns.mails import mails_of
from app.campaigns.outcomes import Outcome, write_outcomes
from app.campaigns.sweep import sweep
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.models.states import RecipientState
from app.models.tables import Campaign, Subscriber
from tests.sending import NOW, add_list, add_people, add_test_server, draft, expand, send_all, start
from tests.smtp_faults import behave, on, reply
from tests.smtp_server import Offers, SmtpServer
from tests.statements import recorded

GONE = "550 5.1.1 no such user"


def bounces(db: Db) -> list[int]:
    return [int(row[0]) for row in db.rows("SELECT bounces FROM subscribers ORDER BY id")]


def begin(db: Db, settings: Settings, **changes: object) -> int:
    """A campaign to all who are on the list `all`; its id."""
    campaign_id = draft(db, ["all"], **changes)
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


@pytest.fixture
def three(db: Db, settings: Settings) -> int:
    """A campaign to three people, ready to be leased."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 3))
    return begin(db, settings)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (GONE, True),
        ("550 no", True),
        ("550", True),
        ("554 5.4.1 Recipient address rejected: Access denied", True),
        ("552 5.2.2 mailbox full", True),
        ("554 5.7.1 looks like spam", False),
        ("554 5.6.0 bad content", False),
        ("552 5.3.4 too large", False),
        ("450 4.2.0 later", False),
        ("gave up after 8 attempts: 550 no", False),
        ("5500 people", False),
        ("the mail has 9000 bytes", False),
    ],
)
def test_what_says_that_a_mailbox_takes_no_mail(text: str, counts: bool) -> None:
    assert is_refusal(text) is counts


@pytest.mark.parametrize("step", ["RCPT", "DOT"])
def test_a_refusal_counts_once_and_the_limit_ends_it(db: Db, settings: Settings, step: Any) -> None:
    add_list(db, "all", add_people(db, 3))
    with SmtpServer(plan=on(step, reply(GONE), recipient="p2@example.test")) as server:
        add_test_server(server)
        for count in (1, 2, 3):
            begin(db, settings)
            send_all(db, settings)
            assert bounces(db) == [0, count, 0]
        last = begin(db, settings)
        send_all(db, settings)
    person = Subscriber.get(Subscriber.email == "p2@example.test")
    assert (person.status, person.status_reason) == ("bounced", f"bounced: 3 permanent refusals, last {GONE}")
    assert Campaign.get_by_id(last).status == "sent"
    row = db.row("SELECT state, reason FROM recipients WHERE campaign_id = ? AND subscriber_id = ?", last, person.id)
    assert row == ("skipped", person.status_reason)


def test_an_accepted_mail_begins_the_count_anew(db: Db, settings: Settings) -> None:
    add_list(db, "all", add_people(db, 3))
    Subscriber.update(bounces=2).where(Subscriber.id == 2).execute()
    with SmtpServer() as server:
        add_test_server(server)
        begin(db, settings)
        send_all(db, settings)
    assert bounces(db) == [0, 0, 0]


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (Offers(), "554 5.7.1 looks like spam"),
        (Offers(), "450 4.2.0 later"),
        (Offers(size=100), None),
    ],
)
def test_what_is_not_about_the_mailbox_does_not_count(
    db: Db, settings: Settings, offers: Offers, answer: str | None
) -> None:
    add_list(db, "all", add_people(db, 2))
    with SmtpServer(offers, plan=on("RCPT", reply(answer)) if answer else behave) as server:
        add_test_server(server)
        campaign_id = begin(db, settings)
        db.run("UPDATE recipients SET attempts = ? WHERE campaign_id = ?", settings.send_max_attempts - 1, campaign_id)
        send_all(db, settings)
    assert db.value("SELECT COUNT(*) FROM recipients WHERE state = 'failed'") == 2
    assert bounces(db) == [0, 0]


def test_a_batch_without_refusals_asks_nothing_of_the_subscribers(
    db: Db, three: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = take(db, "j")
    outcomes = [Outcome(m.subscriber_id, RecipientState.SENT, 1, "250 ok", NOW) for m in mails_of(db, lease)]
    asked = recorded(db, monkeypatch)
    assert write_outcomes(db, three, lease.number, lease.token, outcomes, now=NOW, ready_at=0)
    assert asked
    assert not any("subscribers" in sql for sql in asked)


def take(db: Db, journal: str) -> Lease:
    lease = lease_next(
        db, token=new_token(), journal=journal, only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30
    )
    assert lease is not None
    return lease


def test_an_outcome_that_is_written_twice_counts_once(db: Db, three: int) -> None:
    lease = take(db, "j")
    outcomes = [Outcome(m.subscriber_id, RecipientState.FAILED, 1, GONE, NOW) for m in mails_of(db, lease)]
    for fenced in (True, False):
        assert write_outcomes(db, three, lease.number, lease.token, outcomes, now=NOW, ready_at=0) is fenced
    assert bounces(db) == [1, 1, 1]


def test_a_transaction_that_fails_counts_nothing(db: Db, three: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = take(db, "j")
    outcomes = [Outcome(m.subscriber_id, RecipientState.FAILED, 1, GONE, NOW) for m in mails_of(db, lease)]
    with monkeypatch.context() as patch:
        patch.setattr(db, "update_many", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_outcomes(db, three, lease.number, lease.token, outcomes, now=NOW, ready_at=0)
    assert bounces(db) == [0, 0, 0]


def test_what_a_dead_workers_journal_says_counts_too(db: Db, settings: Settings, three: int) -> None:
    journal = Journal.create(settings.journals, 1)
    db.run("UPDATE subscribers SET bounces = 2 WHERE id <= 2")
    slot, lease = open_slot(db, journal)
    slot.record(0, MailState.SENT, 1, 1000, True, "250 ok")
    slot.record(1, MailState.FAILED, 1, 1000, True, GONE)
    slot.record(2, MailState.FAILED, 0, 1000, False, "a template problem")
    journal.close(remove=False)
    for _ in range(2):
        sweep(db, settings.journals, db.now_ms() + 31_000, settings.lease_seconds, lambda _: None)
    assert bounces(db) == [0, 3, 0]
    assert Subscriber.get_by_id(2).status == "bounced"
    assert lease.campaign_id == three


def open_slot(db: Db, journal: Journal) -> tuple[Any, Lease]:
    slot, token = journal.slots[0], new_token()
    slot.open(token)
    lease = lease_next(
        db, token=token, journal=journal.name, only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30
    )
    assert lease is not None
    slot.fill(lease.campaign_id, lease.number, [mail.subscriber_id for mail in mails_of(db, lease)])
    return slot, lease


def test_an_owner_that_speaks_after_all_is_counted_once(db: Db, three: int) -> None:
    """Its lease was settled as unknown; it says twice what it knows, for the first answer was lost."""
    lease = take(db, "j")
    mails = mails_of(db, lease)
    unknown = [Outcome(m.subscriber_id, RecipientState.UNKNOWN, None, "gone", NOW) for m in mails]
    assert write_outcomes(db, three, lease.number, lease.token, unknown, now=NOW, ready_at=0, settling=True)
    known = [
        Outcome(mails[0].subscriber_id, RecipientState.SENT, 1, "250 ok", NOW),
        Outcome(mails[1].subscriber_id, RecipientState.FAILED, 1, GONE, NOW),
    ]
    for _ in range(2):
        assert not write_outcomes(db, three, lease.number, lease.token, known, now=NOW, ready_at=0)
    assert bounces(db) == [0, 1, 0]
    rows = db.rows("SELECT state FROM recipients ORDER BY subscriber_id")
    assert [row[0] for row in rows] == ["sent", "failed", "unknown"]


@pytest.fixture
def limit_of_one(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BOUNCE_LIMIT", "1")
    config.settings.cache_clear()
    yield
    config.settings.cache_clear()


def test_the_limit_is_a_setting(db: Db, three: int, limit_of_one: None) -> None:
    note_bounces(db, {2: GONE})
    assert Subscriber.get_by_id(2).status_reason == f"bounced: 1 permanent refusal {GONE}"


@pytest.mark.parametrize("status", ["blocked", "deleted", "bounced"])
def test_who_is_not_mailed_for_another_reason_keeps_it(db: Db, three: int, status: str) -> None:
    db.run("UPDATE subscribers SET status = ?, status_reason = 'because', bounces = 5 WHERE id = 2", status)
    note_bounces(db, {2: GONE, 3: GONE})
    person = Subscriber.get_by_id(2)
    assert (person.status, person.status_reason, person.bounces) == (status, "because", 6)
    assert Subscriber.get_by_id(3).status == "active"
