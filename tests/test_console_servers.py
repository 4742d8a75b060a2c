"""The pages of SMTP servers: what they show, what their forms do, what they say when something is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis
from flask import Flask

from app.config import Settings
from app.db import Db
from app.mail.cooldown import Spot, Trouble
from app.mail.limits import History, Limiter, Limits, Refusal
from app.models.tables import Server
from app.web.application import create_app
from app.web.audit import entries
from app.web.console.pages.server_edit import zones
from tests.console import PHONE, Visitor, chromium, logged_in, serving, window
from tests.sending import add_list, add_people, draft
from tests.smtp_faults import on, reply
from tests.smtp_server import Offers, SmtpServer
from tests.web import caller

NEW = {"name": "one", "host": "smtp.example.com", "port": "587", "tls": "starttls", "weight": "1", "timezone": "UTC"}
LOGIN = {"user": "me", "password_env": "ONE_PASSWORD"}


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=10")


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setenv("ONE_PASSWORD", "tr0ub4dor")
    return create_app(here, db=db)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return logged_in(app)


def added(visitor: Visitor, **fields: Any) -> int:
    visitor.get("/servers/new")
    made = visitor.post("/servers/new", **{**NEW, **fields})
    assert made.status_code == 303, made.text
    return int(Server.select().order_by(Server.id.desc()).get().id)


def test_the_first_server_is_added_tried_out_and_changed(visitor: Visitor, db: Db) -> None:
    empty = visitor.get("/servers").text
    assert "There is no SMTP server yet" in empty
    assert 'href="/servers/new"' in empty
    with SmtpServer(Offers(users={"me": "tr0ub4dor"})) as server:
        place = {"host": "127.0.0.1", "port": server.port, "tls": "none"}
        id_ = added(visitor, **place, **LOGIN, per_day="100", max_connections="4")
        page = visitor.get(f"/servers/{id_}/test").text
        assert "The server is there" in page
        tested = visitor.post(f"/servers/{id_}/test", to="me@example.com", **{"from": "shop@example.com"}).text
        for said in ("connected: 220", "AUTH as me: 235", "mail from shop@example.com", "has taken the mail"):
            assert said in tested
        assert "tr0ub4dor" not in tested
        assert [mail.recipients for mail in server.mails] == [("me@example.com",)]

    shown = visitor.get("/servers").text
    assert '<span class="badge ok">can send</span>' in shown
    assert "1 / 100" in shown
    assert "0 / 4" in shown
    assert "1 tried · 1 sent" in shown
    form = visitor.get(f"/servers/{id_}/edit").text
    assert 'value="ONE_PASSWORD"' in form
    assert "tr0ub4dor" not in form
    changes = {**NEW, **LOGIN, "per_hour": "50", "per_day": "", "weight": "2"}
    assert visitor.post(f"/servers/{id_}/edit", **changes).headers["Location"] == f"/servers/{id_}"
    one = Server.get_by_id(id_)
    assert (one.host, one.port, one.per_hour, one.per_day, one.max_connections, one.weight, one.username) == (
        "smtp.example.com", 587, 50, None, None, 2, "me",
    )  # fmt: skip
    assert "It holds from the next mail on" in visitor.get(f"/servers/{id_}").text
    trail = [(entry.action, entry.detail) for entry in entries(db, 10)]
    assert ("server_edit.new", "303: server one") in trail
    assert ("server_edit.test", "200: one, mail to me@example.com, passed") in trail


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"name": ""}, "name", "name is missing"),
        ({"host": "a b"}, "host", "is not allowed"),
        ({"port": "x"}, "port", "a whole number"),
        ({"per_day": "0"}, "per_day", "per_day=0"),
        ({"per_day": "many"}, "per_day", "a whole number"),
        ({"timezone": "Mars/Olympus"}, "timezone", "no time zone"),
        ({"user": "me"}, "password_env", "go together"),
        ({"user": "me", "password_env": "SECRET_KEY"}, "password_env", "is not allowed here"),
        ({**LOGIN, "tls": "none"}, "tls", "in clear"),
        ({"tls_ca": "/nowhere.pem"}, "tls_ca", "no such file"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_nothing_typed_is_lost(
    visitor: Visitor, db: Db, change: dict[str, str], field: str, said: str
) -> None:
    id_ = added(visitor, name="there")
    for path in ("/servers/new", f"/servers/{id_}/edit"):
        if path.endswith("edit") and "name" in change:
            continue
        visitor.get(path)
        again = visitor.post(path, **{**NEW, "per_hour": "77", **change})
        assert again.status_code == 400
        assert f'id="wrong-{field}" role="alert"' in again.text
        assert said in again.text
        assert 'value="77"' in again.text
    assert Server.select().count() == 1
    assert Server.get().per_hour is None


def test_why_a_server_does_not_send_is_told(visitor: Visitor, db: Db, client: redis.Redis) -> None:
    id_ = added(visitor, per_day="3")
    at = f"/servers/{id_}"
    back = {"back": "all"}
    Spot(id_, "one").cool_down(db, Trouble(), "421 <busy>", db.now_ms())
    cooling = visitor.get("/servers").text
    assert "cooling down" in cooling
    assert "421 &lt;busy&gt;" in cooling
    assert visitor.post(f"{at}/cool", **back).headers["Location"] == "/servers"
    assert "can send" in visitor.get("/servers").text
    db.run("UPDATE servers SET cooldown_step = 1, cooldown_until = 1, cooldown_reason = '421 busy'")
    visitor.post(f"{at}/cool")
    db.run("UPDATE servers SET cooldown_step = 1, cooldown_until = 1, cooldown_reason = '421 busy'")
    visitor.post(f"{at}/pause")
    paused = visitor.get(at).text
    assert '<span class="badge paused">paused</span>' in paused
    assert f'action="{at}/resume"' in paused
    assert visitor.post(f"{at}/resume").headers["Location"] == at
    limiter = Limiter(client, History(db))
    for _ in range(3):
        block = limiter.reserve(id_, "one", Limits(per_day=3, timezone="UTC"), 1)
        assert not isinstance(block, Refusal)
        block.take()
    visitor.post(f"{at}/resume")
    used_up = visitor.get(at).text
    assert "The limit of the day is used up" in used_up
    assert "3 / 3" in used_up


def test_one_server_shows_its_campaigns_senders_and_mails(visitor: Visitor, db: Db) -> None:
    id_ = added(visitor)
    add_list(db, "all", add_people(db, 1))
    draft(db, ["all"], name="Spring <news>")
    Spot(id_, "one", "news@shop.test").cool_down(db, Trouble(), "450 slow down", db.now_ms())
    minute = db.now_ms() // 60_000
    db.run("INSERT INTO deliveries VALUES (?, ?, 1, 9, 5, 1, 2, 1)", id_, minute - 20 * 24 * 60)
    page = visitor.get(f"/servers/{id_}?span=week").text
    assert "Spring &lt;news&gt;" in page
    assert "news@shop.test" in page
    assert "450 slow down" in page
    assert f"/api/series/deliveries?minutes=10080&amp;server={id_}" in page
    assert "Mails in each step of 1 h" in page
    assert "nothing was tried" in visitor.get("/servers").text
    assert visitor.get(f"/servers/{id_}/live?span=week").status_code == 200
    assert visitor.get("/servers/99").status_code == 404
    assert visitor.get("/servers/99/live").status_code == 404


def test_a_server_is_removed_or_it_is_told_why_not(visitor: Visitor, db: Db) -> None:
    id_ = added(visitor)
    add_list(db, "all", add_people(db, 1))
    draft(db, ["all"])
    visitor.get(f"/servers/{id_}")
    refused = visitor.post(f"/servers/{id_}/remove")
    assert refused.status_code == 409
    assert "the only one of campaign" in refused.text
    db.run("UPDATE campaigns SET status = 'cancelled'")
    assert visitor.post(f"/servers/{id_}/remove").headers["Location"] == "/servers"
    assert "one is removed" in visitor.get("/servers").text


def test_a_form_from_elsewhere_changes_nothing(visitor: Visitor, db: Db) -> None:
    id_ = added(visitor)
    for path in ("new", f"{id_}/edit", f"{id_}/pause", f"{id_}/remove", f"{id_}/test", f"{id_}/cool", f"{id_}/resume"):
        assert visitor.post(f"/servers/{path}", csrf="x", **{**NEW, "name": "two"}).status_code == 403, path
    assert [(one.name, one.state) for one in Server.select()] == [("one", "active")]


def test_what_holds_a_password_is_shown_to_the_administrator_alone(app: Flask, visitor: Visitor) -> None:
    id_ = added(visitor, **LOGIN)
    reader = caller(app, "read")
    for path in ("/servers", f"/servers/{id_}", f"/servers/{id_}/test"):
        page = reader.get(path)
        assert page.status_code == 200
        assert "ONE_PASSWORD" not in page.text
    for path in ("/servers/new", f"/servers/{id_}/edit"):
        assert reader.get(path).status_code == 403


def test_a_test_that_fails_shows_the_step_and_keeps_what_was_typed(visitor: Visitor, db: Db) -> None:
    with SmtpServer(plan=on("RCPT", reply("550 5.7.1 <b>relaying</b> denied"))) as server:
        id_ = added(visitor, host="127.0.0.1", port=server.port, tls="none")
        failed = visitor.post(f"/servers/{id_}/test", to="a@b.example")
        assert "&lt;b&gt;relaying&lt;/b&gt; denied" in failed.text
        assert "That did not work" in failed.text
        assert 'value="a@b.example"' in failed.text
        wrong = visitor.post(f"/servers/{id_}/test", to="nobody")
        assert wrong.status_code == 400
        assert 'id="wrong-to" role="alert"' in wrong.text
        assert 'value="nobody"' in wrong.text


def test_the_time_zones_that_are_offered_are_known(visitor: Visitor) -> None:
    assert {"UTC", "Asia/Shanghai", "Europe/Berlin"} <= set(zones())
    assert '<option value="Asia/Shanghai">' in visitor.get("/servers/new").text


@pytest.mark.slow
def test_a_server_is_added_and_tried_out_in_a_browser(app: Flask, here: Settings, db: Db) -> None:
    """By keyboard, at the width of a phone and in Chinese."""
    with (
        SmtpServer() as server, serving(app) as site, chromium() as browser,
        window(browser, site, here, PHONE, "zh") as seen,
    ):  # fmt: skip
        page = seen.visit("/servers")
        page.locator(".empty a.button").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/servers/new")
        page.locator("#field-name:focus").wait_for()
        page.keyboard.type("one")
        page.locator("#field-host").fill("127.0.0.1")
        page.locator("#field-tls").select_option("none")
        page.locator("#field-port").fill(str(server.port))
        page.locator("#field-per_minute").fill("60")
        assert seen.sticks_out() == 0
        page.locator("#field-weight").press("Enter")
        page.wait_for_url("**/servers/1/test")
        page.locator("#field-to").fill("me@example.com")
        page.locator("#field-from").fill("shop@example.com")
        page.locator("form.form button").click()
        page.locator(".steps li").nth(4).wait_for()
        assert "250" in page.locator(".steps li").nth(4).inner_text()
        assert seen.sticks_out() == 0
        page = seen.visit("/servers")
        assert page.locator(".limits .n").inner_text() == "1 / 60"
        page.once("dialog", lambda dialog: dialog.accept())
        page.locator(".server form button").first.click()
        page.locator(".badge.paused").wait_for()
        assert seen.sticks_out() == 0
        page = seen.visit("/servers/1")
        page.locator(".plot canvas, .plot .nothing:not([hidden])").first.wait_for()
        assert seen.sticks_out() == 0
        assert seen.errors == []
