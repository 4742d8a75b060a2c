"""Notices: written down first, delivered once, tried for a day, to real receivers on both databases."""

from __future__ import annotations

import threading
from dataclasses import replace
from email import message_from_bytes
from email.policy import default

import dramatiq
import pytest

from app.addresses import parse_networks
from app.config import Settings
from app.db import Db
from app.errors import Unavailable
from app.mail.limits import History, Limiter
from app.mail.notices import (
    GIVE_UP_MS,
    KEEP_MS,
    LEASE_MS,
    MOST_TRIES,
    Delivered,
    Kind,
    claim,
    deliver,
    deliver_due,
    post,
    remove_old,
    something_due,
)
from app.mail.servers import add_server
from app.mail.webhook import post_json_guarded
from app.models.states import NoticeState
from app.queues.broker import make_broker, redis_client
from app.queues.tickets import enqueue
from tests.sending import NOW, add_test_server
from tests.smtp_faults import drop, first_of, on, reply
from tests.smtp_server import SmtpServer
from tests.webhooks import receiver
from tests.working import WorkerProcess, eventually

MINUTE = 60_000


def write(db: Db, target: str = "ops@example.com", kind: Kind = "mail", at: int | None = None) -> int:
    now = db.now_ms() if at is None else at
    return post(db, kind=kind, target=target, subject="Grüße from\nhere", body="first\n.second\n" + "ü" * 2000, now=now)


def state_of(db: Db, notice: int) -> tuple[str, int, str | None]:
    """State, attempts, and the reason."""
    row = db.row("SELECT state, attempts, error FROM notices WHERE id = ?", notice)
    assert row
    return str(row[0]), int(row[1]), row[2]


def make_due(db: Db) -> None:
    db.run("UPDATE notices SET next_at = 0 WHERE state IN ('waiting', 'sending')")


def test_a_mail_arrives_as_it_was_written(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        add_test_server(server)
        notice = write(db)
        assert deliver_due(db, settings) == Delivered(sent=1)
        assert deliver_due(db, settings) == Delivered()
        assert server.violations == []
        (mail,) = server.mails
    letter = message_from_bytes(mail.content, policy=default)
    assert (mail.sender, mail.recipients) == (settings.notice_from, ("ops@example.com",))
    assert (letter["Subject"], letter["From"], letter["To"]) == (
        "Grüße from here",
        settings.notice_from,
        "ops@example.com",
    )
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter.get_content().splitlines() == ["first", ".second", "ü" * 2000]
    assert mail.content.isascii(), "not every server offers 8BITMIME"
    assert state_of(db, notice) == (NoticeState.SENT, 1, None)


def test_a_server_that_cannot_leaves_it_to_the_next_one(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=on("MAIL", reply("451 4.3.2 going down"))) as first, SmtpServer() as second:
        add_test_server(first, "first")
        add_server(name="nowhere", host="127.0.0.1", port=1, tls="none", now=NOW)
        add_test_server(second, "second")
        write(db)
        assert deliver_due(db, settings) == Delivered(sent=1)
        assert (len(first.mails), len(second.mails)) == (0, 1)


def test_a_paused_server_is_not_used_and_one_in_trouble_comes_last(db: Db, settings: Settings) -> None:
    with SmtpServer() as paused, SmtpServer() as cooling, SmtpServer() as fit:
        for name, server in (("paused", paused), ("cooling", cooling), ("fit", fit)):
            add_test_server(server, name)
        db.run("UPDATE servers SET state = 'paused' WHERE name = 'paused'")
        db.run("UPDATE servers SET cooldown_until = ? WHERE name = 'cooling'", db.now_ms() + MINUTE)
        write(db)
        deliver_due(db, settings)
        db.run("UPDATE servers SET state = 'paused' WHERE name = 'fit'")
        write(db)
        deliver_due(db, settings)
        assert (len(paused.mails), len(cooling.mails), len(fit.mails)) == (0, 1, 1)


def test_alert_smtp_takes_notices_too(db: Db, settings: Settings) -> None:
    with SmtpServer() as server, SmtpServer() as of_campaigns:
        add_test_server(of_campaigns)
        write(db)
        deliver_due(db, replace(settings, alert_smtp=f"smtp://127.0.0.1:{server.port}"))
        assert (len(server.mails), len(of_campaigns.mails)) == (1, 0)


def test_a_notice_counts_for_its_servers_limits(db: Db, settings: Settings) -> None:
    client = redis_client(settings.redis_url)
    client.flushdb()
    limiter = Limiter(client, History(db))
    with SmtpServer() as server:
        id_ = add_test_server(server)
        db.run("UPDATE servers SET per_day = 2")
        for _ in range(3):
            write(db)
        assert deliver_due(db, settings, limiter=limiter) == Delivered(sent=2, later=1)
        assert len(server.mails) == 2
        waiting = "SELECT error, attempts, next_at FROM notices WHERE state = 'waiting'"
        error, attempts, next_at = db.rows(waiting)[0]
        assert (error, attempts) == ("day limit of server sink", 0), "nothing was tried"
        assert next_at > db.now_ms()
        # Lost with Redis, counted again from the database.
        client.flushdb()
        make_due(db)
        assert deliver_due(db, settings, limiter=limiter) == Delivered(later=1)
        add_server(name="nowhere", host="127.0.0.1", port=1, tls="none", now=NOW, per_day=1)
        db.run("UPDATE servers SET per_day = 3 WHERE id = ?", id_)
        db.run("UPDATE servers SET cooldown_until = ? WHERE id = ?", db.now_ms() + MINUTE, id_)
        for _ in range(2):
            make_due(db)
            write(db)
        deliver_due(db, settings, limiter=limiter)
        assert len(server.mails) == 3, "what could not be sent over the other one has used nothing up"
    client.close()


def test_what_cannot_be_delivered_is_tried_later_with_growing_pauses_for_a_day(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=on("RCPT", reply("450 4.2.1 try later"))) as server:
        add_test_server(server)
        notice = write(db)
        pauses = []
        while state_of(db, notice)[0] == NoticeState.WAITING:
            before = db.now_ms()
            claimed = claim(db, before)
            assert claimed
            deliver(db, settings, claimed)
            next_at = db.value("SELECT next_at FROM notices")
            pauses.append(round((next_at - before) / MINUTE))
            # As if the clock had gone on until then.
            db.run("UPDATE notices SET created_at = created_at - (next_at - ?), next_at = 0", before)
    assert pauses[:5] == [1, 5, 15, 60, 60]
    assert sum(pauses) == pytest.approx(24 * 60, abs=61)
    state, attempts, reason = state_of(db, notice)
    assert (state, attempts) == (NoticeState.FAILED, len(pauses))
    assert "450 4.2.1 try later" in str(reason)
    assert not something_due(db, db.now_ms() + GIVE_UP_MS)


def test_a_recipient_who_does_not_exist_is_not_tried_again(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=on("RCPT", reply("550 5.1.1 no such user"))) as server:
        add_test_server(server)
        notice = write(db)
        assert deliver_due(db, settings) == Delivered(failed=1)
    state, attempts, reason = state_of(db, notice)
    assert (state, attempts) == (NoticeState.FAILED, 1)
    assert "no such user" in str(reason)


def test_a_mail_that_was_sent_again_has_the_same_message_id(db: Db, settings: Settings) -> None:
    cut = first_of(on("DOT", drop(accept=True), count=1))
    with SmtpServer(plan=cut) as server:
        add_test_server(server)
        write(db)
        assert deliver_due(db, settings) == Delivered(later=1), "it may have arrived, but nobody said so"
        make_due(db)
        assert deliver_due(db, settings) == Delivered(sent=1)
        write(db)
        deliver_due(db, settings)
        ids = [message_from_bytes(mail.content)["Message-ID"] for mail in server.mails]
    assert len(ids) == 3
    assert ids[0] == ids[1]
    assert len(set(ids)) == 2


def test_many_deliverers_deliver_each_notice_once(db: Db, settings: Settings) -> None:
    with SmtpServer() as server:
        add_test_server(server)
        for number in range(30):
            write(db, f"user{number}@example.com")
        done: list[Delivered] = []

        def work() -> None:
            done.append(deliver_due(db, settings, seconds=60))
            db.close()

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(one.sent for one in done) == 30
        assert set(server.counts().values()) == {1}
        assert len(server.counts()) == 30


def test_what_a_dead_deliverer_had_in_hand_is_delivered_when_its_lease_is_over(db: Db, settings: Settings) -> None:
    notice = write(db, at=NOW)
    held = claim(db, NOW)
    assert held
    assert state_of(db, notice)[0] == NoticeState.SENDING
    assert claim(db, NOW + LEASE_MS - 1) is None
    assert not something_due(db, NOW + LEASE_MS - 1)
    again = claim(db, NOW + LEASE_MS)
    assert again
    assert (again.id, again.key, again.attempts) == (held.id, held.key, 2)
    with SmtpServer() as server:
        add_test_server(server)
        deliver(db, settings, held)
        assert state_of(db, notice)[0] == NoticeState.SENDING, "whose lease is over has nothing to say any more"
        deliver(db, settings, again)
    assert state_of(db, notice)[0] == NoticeState.SENT


def test_a_notice_that_ends_its_deliverers_is_given_up(db: Db) -> None:
    notice = write(db)
    db.run("UPDATE notices SET attempts = ?", MOST_TRIES)
    assert claim(db, db.now_ms()) is None
    state, _, reason = state_of(db, notice)
    assert (state, reason) == (NoticeState.FAILED, f"its delivery did not end, {MOST_TRIES} times")


def test_a_notice_is_part_of_the_transaction_that_writes_it(db: Db) -> None:
    with pytest.raises(ZeroDivisionError), db.transaction():
        write(db)
        _ = 1 / 0
    assert not something_due(db, db.now_ms())


def test_old_ones_are_removed_and_open_ones_never(db: Db, settings: Settings) -> None:
    waiting, sent = write(db, at=NOW), write(db, at=NOW)
    db.run("UPDATE notices SET state = 'sent' WHERE id = ?", sent)
    assert remove_old(db, NOW + KEEP_MS) == 0
    assert remove_old(db, NOW + KEEP_MS + 1) == 1
    assert [row[0] for row in db.rows("SELECT id FROM notices")] == [waiting]


@pytest.mark.slow
def test_the_tick_has_what_is_due_delivered(db: Db, settings: Settings) -> None:
    client = redis_client(settings.redis_url)
    client.flushdb()
    client.close()
    with SmtpServer() as server:
        add_test_server(server)
        old, new = write(db, at=NOW), write(db)
        db.run("UPDATE notices SET state = 'failed' WHERE id = ?", old)
        before = dramatiq.broker.global_broker
        broker = make_broker(settings.redis_url)
        with WorkerProcess(settings, "--queues", "periodic,mail", "--threads", "1"):
            enqueue(broker, "periodic", "send_notices")
            assert server.wait_for(1), "nothing has arrived"
            eventually(lambda: state_of(db, new)[0] == NoticeState.SENT, "that is written down")
        assert [row[0] for row in db.rows("SELECT id FROM notices")] == [new]
        broker.client.close()
        dramatiq.broker.global_broker = before


# -- webhooks ------------------------------------------------------------------------------------------


def test_the_operators_hook_is_posted_wherever_it_is(db: Db, settings: Settings) -> None:
    with receiver() as hook:
        notice = write(db, hook.url, "hook")
        assert deliver_due(db, settings) == Delivered(sent=1)
        (posted,) = hook.posted
        assert (posted["id"], posted["subject"]) == (notice, "Grüße from here")
        assert posted["text"].startswith("Grüße from here\nfirst\n.second")
        assert hook.keys == [f"notice.{notice}.{db.value('SELECT created_at FROM notices')}"]


def test_a_users_webhook_does_not_lead_inside_unless_that_is_allowed(db: Db, settings: Settings) -> None:
    with receiver() as hook:
        notice = write(db, hook.url, "webhook")
        assert deliver_due(db, settings) == Delivered(failed=1)
        assert hook.posted == []
        state, _, reason = state_of(db, notice)
        assert state == NoticeState.FAILED
        assert "ALLOW_PRIVATE_ADDRESSES" in str(reason)
        assert "secret" not in str(reason)
        write(db, hook.url, "webhook")
        allowed = replace(settings, allow_private_addresses=parse_networks("127.0.0.0/8"))
        assert deliver_due(db, allowed) == Delivered(sent=1)
        assert len(hook.posted) == 1


@pytest.mark.parametrize("kind", ["webhook", "hook"])
def test_an_answer_that_is_no_success_and_a_redirect_are_tried_again(db: Db, settings: Settings, kind: Kind) -> None:
    allowed = replace(settings, allow_private_addresses=parse_networks("all"))
    with receiver(status=503) as broken, receiver() as target, receiver(302, location=target.url) as moved:
        for hook, said in ((broken, "answered 503"), (moved, "answered 302")):
            notice = write(db, hook.url, kind)
            assert deliver_due(db, allowed) == Delivered(later=1)
            assert said in str(state_of(db, notice)[2])
            db.run("DELETE FROM notices")
        assert target.posted == []
    notice = write(db, target.url, kind)
    assert deliver_due(db, allowed) == Delivered(later=1)
    assert "cannot be reached" in str(state_of(db, notice)[2])


@pytest.mark.parametrize("url", ["ftp://example.com/x", "http://", "http://[::1", "http://exa mple.com/", "nothing"])
def test_a_url_that_is_none_is_named_and_raises_nothing_else(db: Db, settings: Settings, url: str) -> None:
    notice = write(db, url, "webhook")
    deliver_due(db, settings)
    assert "cannot be reached" in str(state_of(db, notice)[2])


def test_a_webhook_that_answers_byte_by_byte_is_given_up(db: Db) -> None:
    with receiver(pace=0.05) as hook, pytest.raises(Unavailable, match="cannot be reached"):
        post_json_guarded(hook.url, {"a": 1}, allow_private=parse_networks("all"), seconds=0.5)
