"""Recipients whose mail may have arrived: left alone until a person decides."""

from __future__ import annotations

from email import message_from_bytes

import pytest

from app.campaigns.batches import lease_next, new_token
from app.campaigns.halting import pause_campaign, resume_campaign
from app.campaigns.progress import progress_of
from app.campaigns.unknown import resend_unknown, settle_unknown
from app.config import Settings
from app.db import Db
from app.errors import Refused
from app.models.tables import Batch, Campaign
from tests.sending import send_all
from tests.smtp_faults import behave, drop, on
from tests.smtp_server import SmtpServer
from tests.test_sending import prepare, states

LOST = on("DOT", drop(accept=True), recipient="p3@example.test")


def test_sent_again_on_request_with_the_same_message_id(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=LOST) as server:
        campaign_id = prepare(db, settings, server, people=5)
        send_all(db, settings)
        server.plan = behave
        decided = resend_unknown(db, Campaign.get_by_id(campaign_id))
        assert (decided.decided, decided.in_hand) == (1, 0)
        assert Campaign.get_by_id(campaign_id).status == "sending"
        send_all(db, settings)
    assert states(db, campaign_id) == {"sent": 5}
    assert Campaign.get_by_id(campaign_id).status == "sent"
    twice = [message_from_bytes(m.content)["Message-ID"] for m in server.mails if "p3@example.test" in m.recipients]
    assert len(twice) == 2
    assert twice[0] == twice[1]


def test_settled_they_count_as_sent(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=LOST) as server:
        campaign_id = prepare(db, settings, server, people=5)
        send_all(db, settings)
        assert settle_unknown(db, Campaign.get_by_id(campaign_id)).decided == 1
        assert settle_unknown(db, Campaign.get_by_id(campaign_id)).decided == 0
    assert states(db, campaign_id) == {"sent": 5}
    progress = progress_of(db, Campaign.get_by_id(campaign_id), db.now_ms())
    assert (progress.sent, progress.unknown, progress.status) == (5, 0, "sent")
    assert server.counts()["p3@example.test"] == 1


def test_a_batch_in_a_workers_hands_is_decided_later(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=LOST) as server:
        campaign_id = prepare(db, settings, server, people=5)
        send_all(db, settings)
    Batch.update(state="ready", pending=0, ready_at=0).execute()
    Campaign.update(status="sending").execute()
    assert lease_next(db, token=new_token(), journal="j", only=None, now=db.now_ms(), monotonic=0.0, lease_seconds=30)
    decided = resend_unknown(db, Campaign.get_by_id(campaign_id))
    assert (decided.decided, decided.in_hand) == (0, 1)
    assert states(db, campaign_id)["unknown"] == 1


def test_those_of_a_paused_campaign_wait_until_it_is_resumed(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=LOST) as server:
        campaign_id = prepare(db, settings, server, people=5)
        send_all(db, settings)
        server.plan = behave
        # It was paused in the middle: something of it is still to be sent.
        Campaign.update(status="sending").execute()
        pause_campaign(db, campaign_id)
        assert resend_unknown(db, Campaign.get_by_id(campaign_id)).decided == 1
        assert (Campaign.get_by_id(campaign_id).status, states(db, campaign_id)) == (
            "paused",
            {"pending": 1, "sent": 4},
        )
        assert send_all(db, settings) == 0
        resume_campaign(db, campaign_id, db.now_ms())
        assert send_all(db, settings) == 1
    assert states(db, campaign_id) == {"sent": 5}
    assert Campaign.get_by_id(campaign_id).status == "sent"


def test_a_campaign_that_failed_sends_nothing_again(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=LOST) as server:
        campaign_id = prepare(db, settings, server, people=5)
        send_all(db, settings)
    Campaign.update(status="failed").execute()
    with pytest.raises(Refused, match="is failed"):
        resend_unknown(db, Campaign.get_by_id(campaign_id))
