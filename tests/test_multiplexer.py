"""Several connections on one thread: as fast as the server allows, and none waits for another."""

from __future__ import annotations

from app.config import Settings
from app.db import Db
from app.models.tables import Campaign
from tests.sending import add_list, add_people, add_test_server, draft, expand, send_all, start
from tests.smtp_faults import Event, Fault, Offers, delayed, drop, on, reply
from tests.smtp_server import SmtpServer
from tests.test_sending import prepare, states


def test_a_slow_server_does_not_hold_up_the_mails_of_another(db: Db, settings: Settings) -> None:
    """The slow one needs 50 ms a mail: its campaign may not end before the other's."""
    with SmtpServer(plan=on("DOT", delayed(0.05))) as slow, SmtpServer() as fast:
        late = prepare(db, settings, slow, people=60)
        add_test_server(fast, "fast")
        add_list(db, "others", add_people(db, 300, "other"))
        soon = draft(db, ["others"], servers=["fast"])
        start(db, soon)
        expand(db, settings, soon)
        send_all(db, settings, threads=2)
    ended = {c.id: c.finished_at or 0 for c in Campaign.select()}
    assert states(db, late) == {"sent": 60}
    assert states(db, soon) == {"sent": 300}
    assert ended[soon] < ended[late]
    assert slow.violations == fast.violations == []


def test_refusals_in_the_middle_are_answered_without_holding_up_anybody(db: Db, settings: Settings) -> None:
    def plan(event: Event) -> Fault | None:
        return reply("550 5.1.1 no such user") if event.verb == "RCPT" and event.nth % 3 == 0 else None

    with SmtpServer(plan=plan) as server:
        campaign_id = prepare(db, settings, server, people=300)
        send_all(db, settings, threads=3)
    counted = states(db, campaign_id)
    assert counted["sent"] + counted["failed"] == 300
    assert len(server.counts()) == counted["sent"]
    assert set(server.counts().values()) == {1}
    assert server.violations == []


def test_a_line_cut_after_the_dot_costs_one_mail_of_that_connection_only(db: Db, settings: Settings) -> None:
    plan = on("DOT", drop(accept=True), recipient="p50@example.test")
    with SmtpServer(plan=plan) as server:
        campaign_id = prepare(db, settings, server, people=400)
        send_all(db, settings, threads=4)
    assert states(db, campaign_id) == {"sent": 399, "unknown": 1}
    assert set(server.counts().values()) == {1}


def test_servers_without_pipelining_are_served_side_by_side(db: Db, settings: Settings) -> None:
    with SmtpServer(Offers(pipelining=False)) as server:
        campaign_id = prepare(db, settings, server, people=300)
        send_all(db, settings, threads=3)
    assert states(db, campaign_id) == {"sent": 300}
    assert server.violations == []


def test_a_mail_larger_than_the_kernels_buffers_is_sent_whole(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        campaign_id = prepare(db, settings, server, people=6, text="x" * 70 + "\n" * 1 + ("line of text\n" * 60_000))
        send_all(db, settings, threads=2)
    assert states(db, campaign_id) == {"sent": 6}
    assert all(len(mail.content) > 700_000 for mail in server.mails)
