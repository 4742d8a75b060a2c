"""Sending whole batches over real sockets: everyone once, answers kept, servers in trouble left alone."""

from __future__ import annotations

import json
import threading
from email import message_from_bytes, policy
from typing import Any

import pytest

from app.campaigns.batches import Lease, hand_back, lease_next, new_token
from app.campaigns.housekeeping import next_ready_at
from app.campaigns.progress import progress_of
from app.campaigns.recipients import recipients_of
from app.campaigns.service import SendService
from app.config import Settings
from app.db import Db, connect
from app.models.tables import Batch, Campaign, Recipient, Subscriber
from tests.sending import NOW, add_list, add_people, add_test_server, draft, expand, send_all, start
from tests.smtp_faults import Event, Fault, behave, drop, on, reply
from tests.smtp_server import SmtpServer


def prepare(db: Db, settings: Settings, server: SmtpServer, people: int = 250, **changes: object) -> int:
    """An expanded campaign to `people` over this server."""
    ids = add_people(db, people)
    add_list(db, "all", ids)
    add_test_server(server)
    campaign_id = draft(db, ["all"], **changes)
    start(db, campaign_id)
    expand(db, settings, campaign_id)
    return campaign_id


def states(db: Db, campaign_id: int) -> dict[str, int]:
    rows = db.rows("SELECT state, COUNT(*) FROM recipients WHERE campaign_id = ? GROUP BY state", campaign_id)
    return {str(state): int(count) for state, count in rows}


def test_everyone_gets_one_mail_and_the_campaign_is_sent(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        campaign_id = prepare(db, settings, server)
        assert send_all(db, settings, threads=3) == 250
    assert set(server.counts().values()) == {1}
    assert len(server.counts()) == 250
    assert server.violations == []
    progress = progress_of(db, Campaign.get_by_id(campaign_id), db.now_ms())
    assert (progress.status, progress.recipients, progress.sent, progress.pending) == ("sent", 250, 250, 0)


def test_a_mail_arrives_as_it_was_written(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        prepare(
            db, settings, server, people=1,
            subject="Grüße an {{ name }} 你好", sender="Café <news@shop.test>",
            html="<p>{{ name }} & {{ city }}</p>", text=".dot first\n{{ name }}",
        )  # fmt: skip
        Subscriber.update(name='Zoë "Z" <x>').execute()
        send_all(db, settings)
    parsed = message_from_bytes(server.mails[0].content, policy=policy.default)
    assert parsed["Subject"] == 'Grüße an Zoë "Z" <x> 你好'
    assert parsed["From"].addresses[0].display_name == "Café"
    assert parsed["To"].addresses[0].display_name == 'Zoë "Z" <x>'
    text, html = (part.get_content().replace("\r\n", "\n") for part in parsed.iter_parts())
    assert text.startswith('.dot first\nZoë "Z" <x>')
    assert "Zoë &#34;Z&#34; &lt;x&gt; & Rome" in html


def test_the_servers_answer_is_kept_for_each_recipient(db: Db, settings: Settings) -> None:
    plan = on("RCPT", reply("550 5.1.1 no such user"), recipient="p3@example.test")
    with SmtpServer(plan=plan) as server:
        campaign_id = prepare(db, settings, server, people=5)
        send_all(db, settings)
    campaign = Campaign.get_by_id(campaign_id)
    failed = list(recipients_of(db, campaign, state="failed"))
    assert [(r.email, r.reason, r.attempts, r.server) for r in failed] == [
        ("p3@example.test", "550 5.1.1 no such user", 1, "sink")
    ]
    sent = list(recipients_of(db, campaign, state="sent"))
    assert len(sent) == 4
    assert all(r.reason and r.reason.startswith("250") and r.sent_at for r in sent)
    assert (campaign.status, progress_of(db, campaign, db.now_ms()).failed) == ("sent", 1)


def test_a_4xx_is_tried_again_later_and_only_for_that_recipient(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=on("RCPT", reply("450 4.2.0 greylisted"), recipient="p2@example.test")) as server:
        campaign_id = prepare(db, settings, server, people=3)
        send_all(db, settings)
        server.plan = behave
        assert states(db, campaign_id) == {"pending": 1, "sent": 2}
        batch = Batch.get(Batch.campaign_id == campaign_id)
        assert batch.ready_at > db.now_ms() + 50_000
        # The minute passes.
        Recipient.update(tried_at=Recipient.tried_at - 61_000).where(Recipient.state == "pending").execute()
        Batch.update(ready_at=Batch.ready_at - 61_000).execute()
        send_all(db, settings)
    assert states(db, campaign_id) == {"sent": 3}
    assert server.counts()["p2@example.test"] == 1


def test_a_4xx_becomes_final_after_the_last_attempt(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=on("RCPT", reply("450 4.2.0 no"), recipient="p1@example.test")) as server:
        campaign_id = prepare(db, settings, server, people=1)
        Recipient.update(attempts=settings.send_max_attempts - 1).execute()
        send_all(db, settings)
    row = Recipient.get(Recipient.campaign_id == campaign_id)
    assert row.state == "failed"
    assert "gave up after 8 attempts: 450" in str(row.reason)


def test_a_server_in_trouble_is_left_alone_and_another_takes_over(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=on("MAIL", reply("421 4.3.2 going down"))) as bad, SmtpServer() as good:
        add_test_server(bad, "bad")
        campaign_id = prepare(db, settings, good, people=20)
        send_all(db, settings)
        assert states(db, campaign_id) == {"sent": 20}
    assert len(good.counts()) == 20
    assert bad.counts() == {}


def test_a_batch_whose_servers_are_all_in_trouble_goes_back_untouched(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=on("MAIL", reply("421 4.3.2 going down"))) as server:
        campaign_id = prepare(db, settings, server, people=20)
        send_all(db, settings)
    assert states(db, campaign_id) == {"pending": 20}
    assert Recipient.select().where(Recipient.attempts > 0).count() == 0
    assert Batch.get(Batch.campaign_id == campaign_id).state == "ready"
    campaign = Campaign.get_by_id(campaign_id)
    assert campaign.held_until > db.now_ms() + 40_000
    assert campaign.held_by == "server sink: MAIL was answered 421 4.3.2 going down"
    assert "going down" in str(progress_of(db, campaign, db.now_ms()).blocked_by)
    assert lease(db, db.now_ms()) is None
    assert lease(db, campaign.held_until) is not None


def test_a_server_that_hangs_up_after_some_mails_gets_another_connection(db: Db, settings: Settings) -> None:
    def plan(event: Event) -> Fault | None:
        return reply("421 4.7.0 enough for one connection") if event.verb == "MAIL" and event.nth == 8 else None

    with SmtpServer(plan=plan) as server:
        campaign_id = prepare(db, settings, server, people=30)
        send_all(db, settings)
        assert server.connections == 5
    assert states(db, campaign_id) == {"sent": 30}
    assert set(server.counts().values()) == {1}


@pytest.mark.parametrize("accepted", [True, False])
def test_a_line_lost_after_the_dot_leaves_one_recipient_unknown_and_never_sends_again(
    db: Db, settings: Settings, accepted: bool
) -> None:
    with SmtpServer(plan=on("DOT", drop(accept=accepted), recipient="p5@example.test")) as server:
        campaign_id = prepare(db, settings, server, people=12)
        send_all(db, settings)
        send_all(db, settings)
    assert states(db, campaign_id) == {"sent": 11, "unknown": 1}
    assert server.counts()["p5@example.test"] == int(accepted)
    assert Campaign.get_by_id(campaign_id).status == "sent"


def test_someone_who_left_since_the_expansion_is_skipped_with_the_reason(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        campaign_id = prepare(db, settings, server, people=3)
        Subscriber.update(status="deleted").where(Subscriber.email == "p2@example.test").execute()
        send_all(db, settings)
    assert states(db, campaign_id) == {"sent": 2, "skipped": 1}
    (skipped,) = recipients_of(db, Campaign.get_by_id(campaign_id), state="skipped")
    assert skipped.reason == "deleted"


def test_a_mail_that_cannot_be_composed_fails_alone(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        campaign_id = prepare(db, settings, server, people=3)
        Subscriber.update(attributes=json.dumps({})).where(Subscriber.email == "p1@example.test").execute()
        send_all(db, settings)
    assert states(db, campaign_id) == {"sent": 2, "failed": 1}
    (failed,) = recipients_of(db, Campaign.get_by_id(campaign_id), state="failed")
    assert "city" in str(failed.reason)


def test_stopping_finishes_the_mail_in_hand_and_hands_the_rest_back(db: Db, settings: Settings) -> None:
    stop = threading.Event()

    def plan(event: Event) -> None:
        if event.recipient == "p10@example.test":
            stop.set()

    with SmtpServer(plan=plan) as server:
        campaign_id = prepare(db, settings, server, people=50)
        service = SendService(db, settings, threads=1, stop=stop)
        service.work()
        service.close()
        counted = states(db, campaign_id)
        assert counted["sent"] < 15
        assert Batch.get(Batch.campaign_id == campaign_id).state == "ready"
        assert list(settings.journals.iterdir()) == []
        send_all(db, settings)
    assert states(db, campaign_id) == {"sent": 50}
    assert set(server.counts().values()) == {1}


def lease(db: Db, now: int = NOW) -> Lease | None:
    return lease_next(db, token=new_token(), journal="j", only=None, now=now, monotonic=0.0, lease_seconds=30)


def test_campaigns_take_turns_whatever_their_size(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        big = prepare(db, settings, server, people=2000)
        for _ in range(8):
            assert lease(db, db.now_ms()) is not None
        add_list(db, "few", add_people(db, 500, "few"))
        small = draft(db, ["few"])
        start(db, small)
        expand(db, settings, small)
        order = [leased.campaign_id for _ in range(10) if (leased := lease(db, db.now_ms()))]
    assert order.count(big) == 5
    assert order.count(small) == 5


def test_a_heavier_campaign_gets_its_share(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        light = prepare(db, settings, server, people=4000)
        heavy = draft(db, ["all"], weight=3)
        start(db, heavy)
        expand(db, settings, heavy)
        order = [leased.campaign_id for _ in range(40) if (leased := lease(db, db.now_ms()))]
    assert abs(order.count(heavy) - 30) <= 1
    assert abs(order.count(light) - 10) <= 1


def test_a_campaign_that_waited_does_not_starve_the_others_when_it_comes_back(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        waited = prepare(db, settings, server, people=2000)
        Batch.update(ready_at=db.now_ms() + 60_000).execute()
        other = draft(db, ["all"])
        start(db, other)
        expand(db, settings, other)
        now = db.now_ms()
        for _ in range(8):
            assert lease(db, now) is not None
        order = [leased.campaign_id for _ in range(8) if (leased := lease(db, now + 60_000))]
    assert order.count(waited) in (4, 5)
    assert order.count(other) in (3, 4)


def test_a_lease_asks_no_more_of_the_database_beside_hundreds_of_campaigns_with_nothing_ready(
    db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SmtpServer() as server:
        working = prepare(db, settings, server, people=400)
    idle = [working + 1 + number for number in range(60)]
    columns = "id, name, status, subject, sender, envelope_sender, message_key, served, created_at"
    db.run_many(
        f"INSERT INTO campaigns ({columns})",
        [(id_, "idle", "sending", "s", "a@x.test", "a@x.test", f"{id_:016}", -1.0, 1) for id_ in idle],
    )
    later = db.now_ms() + 60_000
    db.run_many(
        "INSERT INTO batches (campaign_id, number, state, ready_at, pending)",
        [(id_, 1, "ready", later + id_, 100) for id_ in idle],
    )
    asked: list[str] = []
    execute: Any = db.peewee.execute_sql

    def ask(sql: str, *rest: Any) -> Any:
        asked.append(sql)
        return execute(sql, *rest)

    monkeypatch.setattr(db.peewee, "execute_sql", ask)
    leased = lease(db, db.now_ms())
    assert leased is not None
    assert leased.campaign_id == working
    assert len(asked) < 10
    asked.clear()
    assert next_ready_at(db, db.now_ms()) == later + idle[0]
    assert len([sql for sql in asked if "batches" in sql]) == 1


def test_what_others_are_leasing_just_now_is_passed_over(db: Db, database_url: str, settings: Settings) -> None:
    if db.dialect == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    with SmtpServer() as server:
        first = prepare(db, settings, server, people=50)
        others = [draft(db, ["all"]) for _ in range(2)]
        for campaign_id in others:
            start(db, campaign_id)
            expand(db, settings, campaign_id)
    busy = connect(database_url)
    with busy.transaction():
        busy.rows("SELECT number FROM batches WHERE campaign_id IN (?, ?) FOR UPDATE", first, others[0])
        leased = lease(db, db.now_ms())
        assert leased is not None
        assert leased.campaign_id == others[1]
        assert lease(db, db.now_ms()) is None
    busy.close()
    assert lease(db, db.now_ms()) is not None


def test_two_workers_never_lease_the_same_batch(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        prepare(db, settings, server, people=3000)
    leased: list[int] = []

    def work() -> None:
        while (mine := lease(db, db.now_ms())) is not None:
            leased.append(mine.number)
        db.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(leased) == len(set(leased)) == 30


def test_a_batch_handed_back_with_an_old_token_stays_with_its_new_owner(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        prepare(db, settings, server, people=10)
    first = lease(db, db.now_ms())
    assert first is not None
    assert hand_back(db, first.campaign_id, first.number, first.token, 0)
    second = lease(db, db.now_ms())
    assert second is not None
    assert not hand_back(db, first.campaign_id, first.number, first.token, 0)
    assert Batch.get(Batch.campaign_id == first.campaign_id).token == second.token
