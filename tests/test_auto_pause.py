"""A campaign whose mails fail pauses by itself: once, with the reason, and the operator is told once."""

from __future__ import annotations

import threading
from dataclasses import replace
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest

from app.campaigns import auto_pause
from app.campaigns.auto_pause import pause_when_failing, usual_reply
from app.campaigns.halting import pause_campaign, resume_campaign
from app.campaigns.lifecycle import find_campaign
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.queues.broker import redis_client
from tests.sending import NOW, add_list, add_people, add_test_server, draft, expand, start
from tests.smtp_faults import Event, Fault, reply
from tests.smtp_server import SmtpServer
from tests.working import WorkerProcess, eventually


@pytest.fixture
def campaign(db: Db, settings: Settings) -> int:
    """A sending campaign to 1,000 people: ten batches."""
    add_server(name="sink", host="127.0.0.1", port=25, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 1000))
    campaign_id = draft(db, ["all"], name="Spring")
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


@pytest.fixture
def told(settings: Settings) -> Settings:
    return replace(settings, alert_mail="ops@example.com")


def went(db: Db, batch: int, sent: int, failed: int, reason: str = "550 5.1.1 no such user") -> None:
    """As if a worker had recorded that."""
    ids = [row[0] for row in db.rows("SELECT subscriber_id FROM recipients WHERE batch = ?", batch)]
    db.run(
        "UPDATE batches SET state = 'done', pending = 0, sent = ?, failed = ?, skipped = ? WHERE number = ?",
        sent, failed, len(ids) - sent - failed, batch,
    )  # fmt: skip
    for state, chosen in (("sent", ids[:sent]), ("failed", ids[sent : sent + failed])):
        for id_ in chosen:
            db.run("UPDATE recipients SET state = ?, reason = ? WHERE subscriber_id = ?", state, reason, id_)


def notices(db: Db) -> list[dict[str, Any]]:
    return [
        {"target": target, "subject": subject, "body": body}
        for target, subject, body in db.rows("SELECT target, subject, body FROM notices ORDER BY id")
    ]


@pytest.mark.parametrize(
    ("sent", "failed", "paused"),
    [(0, 99, False), (0, 100, True), (100, 100, True), (400, 100, True), (401, 100, False), (0, 0, False)],
)
def test_both_the_number_and_the_share_have_to_be_reached(
    db: Db, settings: Settings, campaign: int, sent: int, failed: int, paused: bool
) -> None:
    db.run("UPDATE batches SET sent = ?, failed = ? WHERE number = 1", sent, failed)
    assert pause_when_failing(db, settings, campaign, NOW) is paused
    assert find_campaign(campaign).status == ("paused" if paused else "sending")


def test_it_says_how_many_failed_and_what_most_of_them_were_answered(db: Db, told: Settings, campaign: int) -> None:
    db.run("UPDATE campaigns SET boost = 3")
    went(db, 1, 100, 0)
    went(db, 2, 60, 40, "550 5.1.1 <a@b>: no such user")
    went(db, 3, 88, 12, "554 5.7.1 blocked")
    went(db, 4, 0, 60, "550 5.1.1 <c@d>: no such user")
    assert pause_when_failing(db, told, campaign, NOW)
    found = find_campaign(campaign)
    assert (found.status, found.boost) == ("paused", 0)
    assert found.reason == "112 of 360 mails failed (31 %): 550 5.1.1 <c@d>: no such user"
    (notice,) = notices(db)
    assert notice["target"] == "ops@example.com"
    assert notice["subject"] == f"[mailcrew] campaign {campaign} 'Spring' paused by itself"
    assert found.reason in notice["body"]
    assert f"bin/mailcrew campaigns resume {campaign}" in notice["body"]


def test_without_an_address_it_pauses_and_tells_nobody(db: Db, settings: Settings, campaign: int) -> None:
    went(db, 1, 0, 100)
    assert pause_when_failing(db, settings, campaign, NOW)
    assert notices(db) == []


def test_failures_without_a_reply_have_a_reason_too(db: Db, settings: Settings, campaign: int) -> None:
    assert usual_reply(db, campaign) == "no reason was kept"
    went(db, 1, 0, 100, "html, line 1: unknown field")
    assert usual_reply(db, campaign) == "html, line 1: unknown field"


def test_eight_that_see_it_at_once_pause_it_once_and_tell_it_once(db: Db, told: Settings, campaign: int) -> None:
    went(db, 1, 0, 100)
    together, results = threading.Barrier(8), list[bool]()

    def look() -> None:
        together.wait()
        results.append(pause_when_failing(db, told, campaign, NOW))
        db.close()

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    assert len(notices(db)) == 1


def test_who_resumes_it_has_seen_the_errors_and_only_new_ones_count(db: Db, told: Settings, campaign: int) -> None:
    went(db, 1, 0, 100)
    assert pause_when_failing(db, told, campaign, NOW)
    resume_campaign(db, campaign, NOW)
    assert find_campaign(campaign).reason is None
    assert not pause_when_failing(db, told, campaign, NOW), "the old errors pause it again"
    went(db, 2, 1, 99)
    assert not pause_when_failing(db, told, campaign, NOW)
    went(db, 3, 99, 1)
    assert pause_when_failing(db, told, campaign, NOW)
    assert str(find_campaign(campaign).reason).startswith("100 of 200 mails failed (50 %)")
    assert len(notices(db)) == 2


def test_a_person_who_resumes_between_the_count_and_the_pause_wins(
    db: Db, told: Settings, campaign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    went(db, 1, 0, 100)

    def meanwhile(*_: object) -> str:
        pause_campaign(db, campaign)
        resume_campaign(db, campaign, NOW)
        return "550"

    monkeypatch.setattr(auto_pause, "usual_reply", meanwhile)
    assert not pause_when_failing(db, told, campaign, NOW)
    assert find_campaign(campaign).status == "sending"
    assert notices(db) == []


def test_a_process_looks_once_a_second_and_less_often_when_looking_takes_long() -> None:
    pace = auto_pause._Pace()
    assert pace.begin(1, 100.0)
    assert not pace.begin(1, 100.01), "another thread looks at this moment"
    assert pace.begin(2, 100.0), "another campaign"
    pace.end(1, 100.0, 100.01)
    assert not pace.begin(1, 101.0)
    assert pace.begin(1, 101.02)
    pace.end(1, 101.02, 101.12)
    assert not pace.begin(1, 106.0)
    assert pace.begin(1, 106.2)


@pytest.mark.slow
def test_a_server_that_refuses_everybody_pauses_the_campaign_and_the_mail_arrives(db: Db, settings: Settings) -> None:
    client = redis_client(settings.redis_url)
    client.flushdb()
    client.close()
    add_list(db, "all", add_people(db, 5000))

    def refuse(event: Event) -> Fault | None:
        return reply("550 5.1.1 no such user") if event.verb == "RCPT" else None

    with SmtpServer(plan=refuse) as refusing, SmtpServer() as catcher:
        add_test_server(refusing)
        campaign_id = draft(db, ["all"])
        start(db, campaign_id)
        expand(db, settings, campaign_id)
        arguments = ("--queues", "expand,send,mail", "--threads", "2")
        environ = {
            "ALERT_MAIL": "ops@example.com", "ALERT_SMTP": f"smtp://127.0.0.1:{catcher.port}", "PAUSE_ERRORS": "50",
        }  # fmt: skip
        with WorkerProcess(settings, *arguments, **environ):
            eventually(lambda: find_campaign(campaign_id).status == "paused", "it pauses")
            assert catcher.wait_for(1), "the mail has not arrived"
            eventually(lambda: db.value("SELECT state FROM notices") == "sent", "that is written down")
            asked = db.value("SELECT SUM(failed) FROM batches")
            assert 50 <= asked < 5000
        (mail,) = catcher.mails
    letter = message_from_bytes(mail.content, policy=default)
    assert letter["To"] == "ops@example.com"
    assert "550 5.1.1 no such user" in letter.get_content()
    assert refusing.mails == []
    assert len(notices(db)) == 1
