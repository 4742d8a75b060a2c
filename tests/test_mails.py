"""What is read of a batch's recipients, and written of their mails, comes through whole on both databases."""

from __future__ import annotations

import json

import pytest

from app.campaigns.batches import Lease, lease_next, new_token
from app.campaigns.mails import mails_of
from app.campaigns.outcomes import Outcome, write_outcomes
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.models.states import RecipientState
from app.models.tables import Recipient, Subscriber
from tests.sending import NOW, add_list, add_people, draft, expand, start

STRANGE = [
    'He said "yes"', r"back\slash \u00e9 \n", "two\nlines\ttab\r", "café Zoë 王芳 Ωμέγα",
    "🙂👩‍👩‍👧 emoji", "\x01\x1f\x7f",
    "%s ? %(x)s", "' or 1=1 --", "</script>", "a" * 200, "", "null", "[1]", "{", "\u2028\u2029",
]  # fmt: skip


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """One batch to as many people as there are strange texts."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    people = add_people(db, len(STRANGE))
    add_list(db, "all", people)
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def leased(db: Db) -> Lease:
    lease = lease_next(db, token=new_token(), journal="j", only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30)
    assert lease is not None
    return lease


def test_names_and_attributes_are_read_as_they_were_written(db: Db, campaign: int) -> None:
    for id_, text in enumerate(STRANGE, 1):
        attributes = {"text": text, "number": id_, "deep": [None, True, 1.5, {text: text}]}
        Subscriber.update(name=text, attributes=json.dumps(attributes)).where(Subscriber.id == id_).execute()
    Recipient.update(attempts=2, tried_at=NOW).where(Recipient.subscriber_id == 3).execute()
    mails = mails_of(db, leased(db))
    assert [mail.name for mail in mails] == STRANGE
    assert [mail.subscriber_id for mail in mails] == list(range(1, len(STRANGE) + 1))
    for mail, text in zip(mails, STRANGE, strict=True):
        assert mail.attributes["text"] == text
        assert mail.attributes["deep"] == [None, True, 1.5, {text: text}]
    assert [(mail.attempts, mail.tried_at) for mail in mails[1:4]] == [(0, None), (2, NOW), (0, None)]


@pytest.mark.parametrize("size", [100_000, 2_000_000 // len(STRANGE)])
def test_nobody_is_missing_where_the_fields_of_a_batch_are_large(db: Db, campaign: int, size: int) -> None:
    """More than MariaDB puts into one text."""
    Subscriber.update(attributes=json.dumps({"text": "x" * size})).execute()
    mails = mails_of(db, leased(db))
    assert len(mails) == len(STRANGE)
    assert {len(mail.attributes["text"]) for mail in mails} == {size}


def test_nobody_is_missing_where_the_text_is_cut_between_two_people(db: Db, campaign: int) -> None:
    if db.dialect == "mysql":
        whole = db.value("SELECT LENGTH(CONCAT('[', 1, ',', attributes)) FROM subscribers WHERE id = 1")
        for length in range(30, 30 + 12 * int(whole), 1):
            db.run(f"SET SESSION group_concat_max_len = {length}")
            assert len(mails_of(db, Lease(campaign, 1, "", 1, 0.0))) == len(STRANGE)
    assert len(mails_of(db, leased(db))) == len(STRANGE)


def test_of_an_empty_batch_nothing_is_read(db: Db, campaign: int) -> None:
    assert mails_of(db, Lease(campaign, 99, "", 1, 0.0)) == []


def test_replies_are_written_as_they_were_said(db: Db, campaign: int) -> None:
    lease = leased(db)
    went = (RecipientState.FAILED, RecipientState.SENT)
    outcomes = [
        Outcome(id_, went[id_ % 2], id_ if id_ % 3 else None, text, NOW + id_) for id_, text in enumerate(STRANGE, 1)
    ]
    assert write_outcomes(
        db, lease.campaign_id, lease.number, lease.token, outcomes, now=db.now_ms(), ready_at=0, refund=0.0
    )
    for outcome in outcomes:
        row = Recipient.get(Recipient.subscriber_id == outcome.subscriber_id)
        assert (row.state, row.server_id, row.reason, row.tried_at) == (
            outcome.state, outcome.server_id, outcome.reason, outcome.tried_at,
        )  # fmt: skip
        assert row.attempts == 1
