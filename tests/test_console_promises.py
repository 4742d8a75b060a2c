"""What pages promise and offer in states that are rare: it is what will happen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis
from flask import Flask

from app.config import Settings
from app.db import Db
from app.lists.people import IMPORTED
from app.lists.suppressing import Wanted, add_rules
from app.mail.cooldown import Spot, Trouble
from app.mail.servers import add_server
from app.mail.suppression import parse_rule
from app.web.application import create_app
from app.web.resources import EXTENSION
from tests.checks.targets import add_http
from tests.console import Visitor, logged_in
from tests.schedules.people import add_users
from tests.sending import NOW, add_list, add_people, draft, expand, start

DAY = 86_400_000
HOUR = 3_600_000


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=6")


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setattr("app.web.watcher.FIRST_SECONDS", 60.0)
    return create_app(here, db=db)


@pytest.fixture
def visitor(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Visitor:
    # Nothing is kept for a while: each look shows what a test has just done.
    monkeypatch.setattr("app.web.shared.SHARE", 0)
    found = logged_in(app)
    look = found.get
    monkeypatch.setattr(found, "get", lambda path: (app.extensions[EXTENSION].forget_shared(), look(path))[1])
    return found


@pytest.fixture
def campaign(db: Db, here: Settings) -> int:
    """One that is being sent to five people, of whom one mail's fate is unknown."""
    add_server(name="relay", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 5))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, here, campaign_id)
    db.run("UPDATE recipients SET state = 'unknown' WHERE subscriber_id = 1")
    db.run("UPDATE batches SET unknown = 1, pending = pending - 1 WHERE number = 1")
    return campaign_id


# -- people --------------------------------------------------------------------------------------


def test_whom_an_import_has_blocked_a_person_can_release(visitor: Visitor, db: Db) -> None:
    (person,) = add_people(db, 1)
    db.run("UPDATE subscribers SET status = 'blocked', status_reason = ?", IMPORTED)
    assert f"/subscribers/{person}/unblock" in visitor.get(f"/subscribers/{person}").text
    visitor.post(f"/subscribers/{person}/unblock")
    page = visitor.get(f"/subscribers/{person}").text
    assert "no longer blocked" in page
    assert 'class="badge active"' in page
    assert db.row("SELECT status, status_reason FROM subscribers") == ("active", None)


def test_whom_a_domain_s_rule_means_is_not_offered_a_button_that_is_refused(visitor: Visitor, db: Db) -> None:
    (person,) = add_people(db, 1)
    add_rules(db, [Wanted(parse_rule("@example.test"), "spam trap")])
    page = visitor.get(f"/subscribers/{person}").text
    assert "/unblock" not in page
    assert '<a href="/suppressions?q=%40example.test">' in page


# -- campaigns -----------------------------------------------------------------------------------


def test_a_long_campaign_s_plot_says_what_its_points_are(visitor: Visitor, db: Db, campaign: int) -> None:
    db.run("UPDATE campaigns SET started_at = ?", db.now_ms() - HOUR)
    assert "Mails a minute" in visitor.get(f"/campaigns/{campaign}").text
    db.run("UPDATE campaigns SET started_at = ?", db.now_ms() - 2 * DAY)
    page = visitor.get(f"/campaigns/{campaign}").text
    assert "Mails in each step of 9 min" in page
    assert "Mails a minute" not in page


def test_a_campaign_that_was_cancelled_before_its_time_begins_no_more(visitor: Visitor, db: Db, campaign: int) -> None:
    db.run("UPDATE campaigns SET status = 'scheduled', started_at = NULL, scheduled_at = ?", db.now_ms() + DAY)
    assert "Begins" in visitor.get(f"/campaigns/{campaign}/live").text
    db.run("UPDATE campaigns SET status = 'cancelled'")
    assert "Begins" not in visitor.get(f"/campaigns/{campaign}/live").text


def test_what_is_unknown_is_sent_again_only_where_it_can_be(visitor: Visitor, db: Db, campaign: int) -> None:
    path = f"/campaigns/{campaign}"
    for status, offered in (("sending", True), ("sent", True), ("cancelled", False), ("failed", False)):
        db.run("UPDATE campaigns SET status = ?", status)
        assert ('value="resend"' in visitor.get(f"{path}/live").text) is offered, status
    db.run("UPDATE campaigns SET status = 'paused'")
    db.run("UPDATE batches SET state = 'leased'")
    visitor.get(path)
    visitor.post(f"{path}/unknown", action="resend")
    assert "One of them is in a worker&#39;s hand just now" in visitor.get(path).text
    db.run("UPDATE batches SET state = 'ready'")
    visitor.post(f"{path}/unknown", action="resend")
    assert "One mail is sent again when the campaign goes on" in visitor.get(path).text


def test_a_campaign_that_stands_still_says_why_it_does_not_change(visitor: Visitor, db: Db, campaign: int) -> None:
    assert "has begun, so it does not change" in visitor.get(f"/campaigns/{campaign}/edit").text
    db.run("UPDATE campaigns SET status = 'paused', started_at = NULL")
    assert "paused or ended does not change" in visitor.get(f"/campaigns/{campaign}/edit").text


def test_a_campaign_that_ended_without_recipients_waits_for_none(visitor: Visitor, db: Db) -> None:
    add_server(name="relay", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 1))
    campaign_id = draft(db, ["all"])
    assert "no recipients yet" in visitor.get(f"/campaigns/{campaign_id}/recipients").text
    db.run("UPDATE campaigns SET status = 'sent'")
    assert "had no recipients" in visitor.get(f"/campaigns/{campaign_id}/recipients").text


# -- servers and senders -------------------------------------------------------------------------


def test_a_sender_in_trouble_is_shown_until_a_mail_is_taken(visitor: Visitor, db: Db) -> None:
    server = add_server(name="relay", host="127.0.0.1", port=1, tls="none", now=NOW)
    Spot(server, "relay", "offers@shop.test").cool_down(db, Trouble(), "450 slow down", db.now_ms() - HOUR)
    for path in ("/senders", f"/servers/{server}"):
        page = visitor.get(path).text
        assert "offers@shop.test" in page, path
        assert "tried with the next mail" in page, path
    visitor.post(f"/servers/{server}/cool", back="one")
    assert "450 slow down" not in visitor.get(f"/servers/{server}").text


def test_a_home_whose_servers_are_gone_needs_one(visitor: Visitor, db: Db) -> None:
    add_server(name="relay", host="127.0.0.1", port=1, tls="none", now=NOW)
    assert 'href="/servers/new"' not in visitor.get("/").text
    db.run("UPDATE servers SET state = 'removed'")
    assert 'href="/servers/new"' in visitor.get("/").text


# -- machinery -----------------------------------------------------------------------------------


def test_a_queue_without_a_choice_does_not_wait_for_a_decision(visitor: Visitor) -> None:
    assert "always has one worker" in visitor.get("/scaling?queue=periodic").text
    assert "has not decided anything" in visitor.get("/scaling?queue=send").text
    assert "has not decided anything" not in visitor.get("/scaling?queue=send&changes=1").text


def test_an_alarm_whose_silence_is_over_can_be_acknowledged_again(app: Flask, visitor: Visitor, db: Db) -> None:
    add_server(name="relay", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 1))
    draft(db, ["all"], name="News")
    db.run("UPDATE campaigns SET status = 'paused', reason = '9 of 9 mails failed'")
    visitor.get("/alarms")
    number = db.value("SELECT id FROM alarms WHERE kind = 'campaign_paused'")
    visitor.post(f"/alarms/{number}/acknowledge", minutes="60")
    assert f"/alarms/{number}/remind" in visitor.get("/alarms").text
    db.run("UPDATE alarms SET silent_until = ? WHERE id = ?", db.now_ms() - HOUR, number)
    app.extensions[EXTENSION].watcher.seen = None
    page = visitor.get("/alarms").text
    assert f"/alarms/{number}/acknowledge" in page
    assert f"/alarms/{number}/remind" not in page


# -- schedules -----------------------------------------------------------------------------------


def test_a_run_under_way_has_no_outcome_yet(visitor: Visitor, db: Db) -> None:
    now = db.now_ms()
    (user,) = add_users(
        db, 1, due=now + HOUR, last_run_at=now, last_status="failed", last_duration_ms=12_300, runs=3,
        locked_until=now + HOUR, locked_by="x", period=now, started_period=now,
    )  # fmt: skip
    for path in (f"/schedules/{user}", "/schedules"):
        page = visitor.get(path).text
        assert "running" in page, path
        assert ">failed<" not in page.partition('<div id="live"')[2].partition("<h2>")[0].replace("Failed", ""), path
        assert "12.3 s" not in page, path


def test_who_is_off_is_promised_no_run(visitor: Visitor, db: Db) -> None:
    off, old, new = (
        add_users(db, 1, due=NOW, **more)[0] for more in ({"enabled": 0}, {"enabled": 0, "runs": 9}, {"enabled": 1})
    )
    assert "No run has ended yet, and the checks are off" in visitor.get(f"/schedules/{off}").text
    assert "too old to be kept" in visitor.get(f"/schedules/{old}").text
    assert "comes with the next dispatch" in visitor.get(f"/schedules/{new}").text
    said = "until they are on again, nothing is checked"
    for user in (off, new):
        target = add_http(db, user, "https://shop.test/")
        for page in (f"targets/{target}", "targets/new"):
            assert (said in visitor.get(f"/schedules/{user}/{page}").text) is (user == off), page
