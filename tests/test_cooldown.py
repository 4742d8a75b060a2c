"""Trouble of servers and senders: who is left alone for how long, who tries again, and what it costs nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from app.config import Settings
from app.db import Db
from app.mail import cooldown
from app.mail.cooldown import Spot, Timing, Trouble
from app.mail.servers import servers_of
from app.models.tables import Campaign, Recipient, Server
from tests.schedules.people import SLACK_MS
from tests.sending import (
    NOW,
    add_list,
    add_people,
    add_test_server,
    campaign_to,
    draft,
    send_all,
    sending,
    states,
)
from tests.smtp_faults import Event, Fault, behave, drop, first_of, on, reply
from tests.smtp_server import SmtpServer
from tests.working import eventually

MINUTE = 60_000
EXACT = Timing(jitter=0.0)
SENDER = "news@shop.test"


def server_row(server_id: int) -> Any:
    return Server.get_by_id(server_id)


def cooldown_of_sender(db: Db) -> list[tuple[Any, ...]]:
    return db.rows("SELECT server_id, sender, cooldown_step, cooldown_reason FROM sender_cooldowns")


def let_time_pass(db: Db) -> None:
    """The time of every cool-down and hold is over; what it was about is not."""
    db.run("UPDATE servers SET cooldown_until = 1 WHERE cooldown_until IS NOT NULL")
    db.run("UPDATE sender_cooldowns SET cooldown_until = 1")
    db.run("UPDATE campaigns SET held_until = 0")


# -- how long ------------------------------------------------------------------------------------


def test_each_time_lasts_twice_as_long_up_to_an_hour() -> None:
    assert [EXACT.length(step) // MINUTE for step in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert EXACT.length(10_000) == 60 * MINUTE


def test_nobody_can_tell_to_the_second_when_it_is_over() -> None:
    lengths = {Timing().length(1) for _ in range(300)}
    assert len(lengths) > 100
    assert min(lengths) >= 2 * MINUTE * 0.8
    assert max(lengths) <= 2 * MINUTE * 1.2


@pytest.fixture(params=[None, SENDER], ids=["server", "sender"])
def spot(request: pytest.FixtureRequest, db: Db) -> Spot:
    with SmtpServer() as server:
        return Spot(add_test_server(server), "sink", request.param)


@pytest.fixture
def seen(db: Db, spot: Spot) -> Callable[[], Trouble]:
    """What the database says of the spot now."""
    add_list(db, "some", add_people(db, 1))
    campaign_id = draft(db, ["some"])
    return lambda: servers_of(db, campaign_id, SENDER)[0].spots[spot.sender is not None][1]


def test_trouble_and_its_reason_are_written_down(db: Db, spot: Spot, seen: Callable[[], Trouble]) -> None:
    assert seen() == Trouble()
    assert spot.cool_down(db, seen(), "421 too much", NOW, EXACT)
    assert seen() == Trouble(1, NOW + MINUTE, "421 too much")
    assert seen().free_at(NOW) == NOW + MINUTE
    assert spot.cool_down(db, seen(), "421 still", NOW + MINUTE, EXACT)
    assert seen() == Trouble(2, NOW + 3 * MINUTE, "421 still")


def test_of_many_that_meet_the_same_trouble_one_makes_it_longer(
    db: Db, spot: Spot, seen: Callable[[], Trouble]
) -> None:
    for step in range(3):
        before = seen()
        won = at_once(db, lambda before=before: spot.cool_down(db, before, "451 no", NOW, EXACT))  # type: ignore[misc]
        assert won == 1
        assert seen().step == step + 1


def test_of_many_that_would_try_one_does(db: Db, spot: Spot, seen: Callable[[], Trouble]) -> None:
    spot.cool_down(db, seen(), "451 no", NOW, EXACT)
    known, over = seen(), NOW + MINUTE
    assert not spot.win_trial(db, known, over - 1), "it is not over yet"
    assert at_once(db, lambda: spot.win_trial(db, known, over, EXACT)) == 1
    assert seen().free_at(over) == over + EXACT.trial_ms, "others leave it alone meanwhile"
    assert not spot.win_trial(db, known, over + EXACT.trial_ms - 1)
    assert spot.win_trial(db, known, over + EXACT.trial_ms), "who won it before has died"
    spot.forgo_trial(db, known)
    assert spot.win_trial(db, known, over + EXACT.trial_ms)


def test_after_a_good_trial_all_is_as_before(db: Db, spot: Spot, seen: Callable[[], Trouble]) -> None:
    spot.cool_down(db, seen(), "451 no", NOW, EXACT)
    known = seen()
    assert spot.win_trial(db, known, NOW + MINUTE)
    assert spot.recover(db, known)
    assert seen() == Trouble()
    assert not spot.recover(db, known)
    assert spot.cool_down(db, seen(), "451 no", NOW, EXACT)
    assert seen().until == NOW + MINUTE, "counted from the beginning"


def test_a_good_answer_to_older_trouble_says_nothing_about_the_newest(
    db: Db, spot: Spot, seen: Callable[[], Trouble]
) -> None:
    spot.cool_down(db, seen(), "451 no", NOW, EXACT)
    older = seen()
    spot.cool_down(db, older, "451 no", NOW + MINUTE, EXACT)
    assert not spot.recover(db, older)
    assert seen().step == 2


def at_once(db: Db, act: Callable[[], bool]) -> int:
    """How many of eight threads were told that it was they."""
    told: list[bool] = []
    ready = threading.Barrier(8)

    def run() -> None:
        ready.wait()
        told.append(act())
        db.close()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 8
    return sum(told)


# -- whose trouble -------------------------------------------------------------------------------

OF_SERVER = {
    "421 at MAIL": on("MAIL", reply("421 4.3.2 going down")),
    "421 at RCPT": on("RCPT", reply("421 4.7.0 too many errors")),
    "4xx at DATA": on("DATA", reply("451 4.3.0 try later")),
    "5xx at DATA": on("DATA", reply("554 5.5.1 no")),
    "no room at MAIL": on("MAIL", reply("452 4.3.1 insufficient system storage")),
    "no greeting": on("CONNECT", drop()),
    "refused greeting": on("CONNECT", reply("554 5.7.1 you are on a list")),
    "throttled": on("DOT", reply("454 Throttling failure: Maximum sending rate exceeded.")),
    "relay denied": on("RCPT", reply("554 5.7.1 <p1@example.test>: Relay access denied")),
    "relay denied by exim": on("RCPT", reply("550 relay not permitted")),
}
OF_SENDER = {
    "4xx at MAIL": on("MAIL", reply("450 4.7.1 too much from this address")),
    "5xx at MAIL": on("MAIL", reply("553 5.7.1 sender address rejected: not owned by user")),
}


@pytest.mark.parametrize("plan", OF_SERVER.values(), ids=OF_SERVER.keys())
def test_a_servers_trouble_cools_the_server_down_and_costs_no_recipient_an_attempt(
    db: Db, settings: Settings, plan: Callable[[Event], Fault | None]
) -> None:
    with SmtpServer(plan=plan) as server:
        server_id = add_test_server(server)
        campaign_id = campaign_to(db, settings, 30)
        before = db.now_ms()
        assert send_all(db, settings, threads=2) == 0
        after = db.now_ms()
    assert states(db, campaign_id) == {"pending": 30}
    assert Recipient.select().where(Recipient.attempts > 0).count() == 0
    row = server_row(server_id)
    assert row.cooldown_step == 1
    assert before - SLACK_MS + 48_000 <= row.cooldown_until <= after + SLACK_MS + 72_000
    assert cooldown_of_sender(db) == []
    campaign = Campaign.get_by_id(campaign_id)
    assert campaign.held_until == row.cooldown_until
    assert campaign.held_by == f"server sink: {row.cooldown_reason}"


@pytest.mark.parametrize("plan", OF_SENDER.values(), ids=OF_SENDER.keys())
def test_a_senders_trouble_leaves_the_server_to_other_senders(
    db: Db, settings: Settings, plan: Callable[[Event], Fault | None]
) -> None:
    def only_news(event: Event) -> Fault | None:
        # The test server's plans do not see the sender, so the sender with trouble has this connection to itself.
        return plan(event) if event.connection == 1 else None

    with SmtpServer(plan=only_news) as server:
        server_id = add_test_server(server)
        in_trouble = campaign_to(db, settings, 5, "news")
        assert send_all(db, settings) == 0
        other = campaign_to(db, settings, 7, "other", sender="Sale <sale@shop.test>")
        assert send_all(db, settings) == 7
    assert states(db, in_trouble) == {"pending": 5}
    assert states(db, other) == {"sent": 7}
    ((at, sender, step, reason),) = cooldown_of_sender(db)
    assert (at, sender, step) == (server_id, SENDER, 1)
    assert reason.startswith("MAIL was answered")
    assert server_row(server_id).cooldown_step == 0
    campaign = Campaign.get_by_id(in_trouble)
    assert campaign.held_by == f"server sink, sender {SENDER}: {reason}"
    assert Recipient.select().where(Recipient.campaign_id == in_trouble, Recipient.attempts > 0).count() == 0


def test_a_sender_in_trouble_at_one_server_sends_over_another(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=OF_SENDER["4xx at MAIL"]) as strict, SmtpServer() as good:
        add_test_server(strict, "strict")
        add_test_server(good, "good")
        campaign_id = campaign_to(db, settings, 400)
        assert send_all(db, settings) == 400
    assert states(db, campaign_id) == {"sent": 400}
    assert len(cooldown_of_sender(db)) == 1


def test_recipients_trouble_cools_nothing_down(db: Db, settings: Settings) -> None:
    plan = first_of(
        on("RCPT", reply("450 4.2.0 greylisted"), recipient="all1@example.test"),
        on("RCPT", reply("550 5.1.1 <all2@relay.test> unknown"), recipient="all2@example.test"),
        on("DOT", reply("452 4.2.2 mailbox full"), recipient="all3@example.test"),
        on("RCPT", reply("550 5.7.1 <relay@x.test>: policy"), recipient="all4@example.test"),
        on("RCPT", reply("450 4.2.1 is receiving mail at a rate that is too much mail"), recipient="all5@example.test"),
    )
    with SmtpServer(plan=plan) as server:
        server_id = add_test_server(server)
        campaign_id = campaign_to(db, settings, 8)
        send_all(db, settings)
    assert states(db, campaign_id) == {"sent": 3, "failed": 2, "pending": 3}
    assert server_row(server_id).cooldown_step == 0
    assert cooldown_of_sender(db) == []


# -- trying again --------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [on("DATA", reply("451 4.3.0 no")), on("MAIL", reply("450 4.7.1 not from you"))])
def test_when_the_time_is_over_one_mail_is_tried_and_no_more(
    db: Db, settings: Settings, trouble: Callable[[Event], Fault | None]
) -> None:
    with SmtpServer(plan=trouble) as server:
        add_test_server(server)
        campaign_id = campaign_to(db, settings, 400)
        send_all(db, settings, threads=4)
        tried_before = sum(line.startswith("MAIL") for line in server.said())
        assert tried_before <= 4, "one for each thread that began before anybody knew"
        for step in (2, 3):
            let_time_pass(db)
            before = sum(line.startswith("MAIL") for line in server.said())
            send_all(db, settings, threads=4)
            assert sum(line.startswith("MAIL") for line in server.said()) == before + 1
            assert step_of_anything(db) == step
        let_time_pass(db)
        server.plan = behave
        # The others wait for the trial to end and are let go then.
        with sending(db, settings, threads=4):
            eventually(lambda: len(server.mails) == 400, "all are sent")
    assert states(db, campaign_id) == {"sent": 400}
    assert step_of_anything(db) == 0
    assert Recipient.select().where(Recipient.attempts > 1).count() == 0


def step_of_anything(db: Db) -> int:
    return max(int(row[0]) for row in db.rows(
        "SELECT cooldown_step FROM servers UNION SELECT cooldown_step FROM sender_cooldowns"
    ))  # fmt: skip


def test_a_trial_that_ends_in_doubt_has_failed(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=on("MAIL", reply("421 4.3.2 going down"))) as server:
        server_id = add_test_server(server)
        campaign_id = campaign_to(db, settings, 20)
        send_all(db, settings)
        let_time_pass(db)
        server.plan = on("DOT", drop())
        send_all(db, settings)
    assert states(db, campaign_id) == {"unknown": 1, "pending": 19}
    assert server_row(server_id).cooldown_step == 2


def test_a_server_that_drops_every_mail_at_the_dot_costs_one_recipient_not_all(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=on("DOT", drop())) as server:
        server_id = add_test_server(server)
        campaign_id = campaign_to(db, settings, 50)
        send_all(db, settings)
    assert states(db, campaign_id) == {"unknown": 1, "pending": 49}
    assert server_row(server_id).cooldown_step == 1


def test_a_trial_by_a_recipient_that_does_not_exist_proves_the_server_well(db: Db, settings: Settings) -> None:
    with SmtpServer(plan=on("MAIL", reply("421 4.3.2 going down"))) as server:
        server_id = add_test_server(server)
        campaign_id = campaign_to(db, settings, 5)
        send_all(db, settings)
        let_time_pass(db)
        server.plan = on("RCPT", reply("550 5.1.1 unknown"), recipient="all1@example.test")
        send_all(db, settings)
        send_all(db, settings)
    assert states(db, campaign_id) == {"sent": 4, "failed": 1}
    assert server_row(server_id).cooldown_step == 0


def test_a_password_that_is_not_set_is_the_servers_trouble(
    db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SmtpServer() as server:
        server_id = add_test_server(server)
        Server.update(username="me", password_env="NO_SUCH_PASSWORD").execute()
        campaign_to(db, settings, 5)
        assert send_all(db, settings) == 0
        assert server.connections == 0
    assert server_row(server_id).cooldown_reason == "the variable NO_SUCH_PASSWORD with its password is not set"


def test_the_usual_timing_is_a_minute_doubling_to_an_hour_give_or_take_a_fifth() -> None:
    assert Timing(first_ms=60_000, longest_ms=3_600_000, jitter=0.2, trial_ms=60_000) == cooldown.TIMING
