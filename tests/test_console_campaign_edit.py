"""Writing a campaign in the console: the form, its mistakes, the preview beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis
from flask import Flask
from werkzeug.datastructures import MultiDict

from app.campaigns.authoring import content_of
from app.campaigns.lifecycle import find_campaign, schedule_campaign, start_due
from app.config import Settings
from app.db import Db
from app.models.tables import Campaign, Server
from app.queues.broker import redis_client
from app.web.application import create_app
from tests.console import BROWSER, DESKTOP, Visitor, chromium, logged_in, serving, window
from tests.sending import NOW, add_list, add_people, add_test_server, draft
from tests.smtp_server import SmtpServer
from tests.working import eventually

CAMPAIGN = {
    "name": "Spring", "sender": "Shop <news@shop.test>", "subject": "Hello {{ name }}", "lists": "News",
    "html": "<p style='color:red'>Dear {{ name }}</p>", "text": "Dear {{ name }}\r\nof {{ city }}",
}  # fmt: skip


#: A picture of one dot.
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


@pytest.fixture
def server(db: Db) -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        add_test_server(server)
        add_list(db, "News", add_people(db, 30))
        add_list(db, "Offers", [])
        yield server


@pytest.fixture
def client(redis_server: str) -> Iterator[redis.Redis]:
    client = redis_client(f"{redis_server}?db=6")
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def here(settings: Settings, redis_server: str, client: redis.Redis) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=6")


@pytest.fixture
def app(db: Db, here: Settings, server: SmtpServer) -> Flask:
    return create_app(here, db=db)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    visitor = logged_in(app)
    visitor.get("/campaigns/new")
    return visitor


def test_a_campaign_is_written_and_changed(visitor: Visitor, db: Db) -> None:
    made = visitor.post("/campaigns/new", **CAMPAIGN)
    assert made.headers["Location"] == "/campaigns/1/edit"
    content = content_of(db, 1)
    assert (content.draft.text, content.draft.lists) == ("Dear {{ name }}\nof {{ city }}", ["News"])
    page = visitor.get("/campaigns/1/edit").text
    assert "Saved." in page
    assert "Dear {{ name }}\nof {{ city }}</textarea>" in page

    both = MultiDict([*CAMPAIGN.items(), ("lists", "Offers"), ("csrf", visitor.token), ("version", content.version)])
    both["subject"] = "Hi"
    assert visitor.client.post("/campaigns/1/edit", data=both, headers=BROWSER).status_code == 303
    assert (content_of(db, 1).draft.subject, content_of(db, 1).draft.lists) == ("Hi", ["News", "Offers"])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "", "1 to 200 characters"),
        ("sender", "me", "is not an email address"),
        ("subject", "{{ nme }}", "unknown field"),
        ("lists", "Nobody", "there is no list"),
        ("weight", "x", "is not allowed"),
        ("text", "{% if %}", "text, line 1"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_nothing_typed_is_lost(
    visitor: Visitor, field: str, value: str, words: str
) -> None:
    answer = visitor.post("/campaigns/new", **{**CAMPAIGN, field: value})
    assert answer.status_code == 400
    told = answer.text.partition(f'id="wrong-{field}" role="alert">')[2]
    assert words in told.partition("</p>")[0].replace("&#39;", "'")
    assert 'aria-invalid="true"' in answer.text
    assert "Dear {{ name }}" in answer.text
    assert Campaign.select().count() == 0


def test_a_second_author_does_not_overwrite_unseen(visitor: Visitor, db: Db) -> None:
    visitor.post("/campaigns/new", **CAMPAIGN)
    seen = content_of(db, 1).version
    visitor.post("/campaigns/1/edit", **{**CAMPAIGN, "subject": "First", "version": seen})
    late = visitor.post("/campaigns/1/edit", **{**CAMPAIGN, "subject": "Second", "version": seen})
    assert late.status_code == 409
    assert "changed by somebody else" in late.text
    assert 'value="Second"' in late.text
    assert content_of(db, 1).draft.subject == "First"
    again = {**CAMPAIGN, "subject": "Second", "version": content_of(db, 1).version}
    assert again["version"] in late.text
    assert visitor.post("/campaigns/1/edit", **again).status_code == 303


def test_copy_put_off_and_throw_away(visitor: Visitor, db: Db) -> None:
    visitor.post("/campaigns/new", **CAMPAIGN)
    assert visitor.post("/campaigns/1/copy").headers["Location"] == "/campaigns/2/edit"
    schedule_campaign(db, 1, NOW * 2, NOW)
    assert "It begins at" in visitor.get("/campaigns/1/edit").text
    visitor.post("/campaigns/1/unschedule")
    assert find_campaign(1).status == "draft"
    assert visitor.post("/campaigns/1/delete").headers["Location"] == "/campaigns"
    assert Campaign.select().count() == 1


def test_what_has_begun_is_shown_and_not_saved(visitor: Visitor, db: Db) -> None:
    campaign_id = draft(db, ["News"])
    schedule_campaign(db, campaign_id, NOW, NOW)
    start_due(db, NOW)
    page = visitor.get(f"/campaigns/{campaign_id}/edit").text
    assert "does not change any more" in page
    assert "Save</button>" not in page
    assert visitor.post(f"/campaigns/{campaign_id}/edit", **CAMPAIGN).status_code == 409
    assert visitor.post(f"/campaigns/{campaign_id}/delete").status_code == 409


def test_the_mail_is_shown_in_a_document_that_can_do_nothing(visitor: Visitor, db: Db) -> None:
    shown = visitor.post("/campaigns/preview/mail", **{**CAMPAIGN, "name": "", "email": "p3@example.test"})
    assert shown.text == "<p style='color:red'>Dear Person 3</p>"
    policy = shown.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert policy.endswith("sandbox")
    assert "frame-ancestors 'self'" in policy
    assert shown.headers["X-Frame-Options"] == "SAMEORIGIN"
    wrong = visitor.post("/campaigns/preview/mail", **{**CAMPAIGN, "html": "<script>{{ x }}"})
    assert wrong.mimetype == "text/plain"

    about = visitor.post("/campaigns/preview/about", **{**CAMPAIGN, "random": "1"}).text
    assert "Hello Person" in about
    assert "<code>city</code>" in about
    assert "of Rome" in about
    assert 'data-wrong="lists"' in visitor.post("/campaigns/preview/about", **{**CAMPAIGN, "lists": "None"}).text
    assert db.value("SELECT COUNT(*) FROM audit WHERE action <> 'login'") == 0, "who only looks leaves no trace"


def test_a_large_mail_goes_through_the_form(visitor: Visitor, db: Db) -> None:
    assert visitor.post("/campaigns/new", **{**CAMPAIGN, "html": "<p>" + "é" * 450_000}).status_code == 303
    assert len(content_of(db, 1).draft.html or "") == 450_003


def test_a_test_mail_is_sent_and_told(visitor: Visitor, server: SmtpServer) -> None:
    visitor.post("/campaigns/new", **CAMPAIGN)
    visitor.post("/campaigns/1/test", to="me@author.test", email="p5@example.test")
    assert [mail.recipients for mail in server.mails] == [("me@author.test",)]
    assert "The test went to me@author.test over sink" in visitor.get("/campaigns/1/edit").text
    wrong = visitor.post("/campaigns/1/test", to="me")
    assert wrong.status_code == 400
    assert "is not an email address" in wrong.text.partition('id="wrong-test_to"')[2].partition("</p>")[0]
    assert 'value="me"' in wrong.text


def test_what_is_missing_is_told_with_the_next_step(visitor: Visitor, db: Db) -> None:
    Server.update(state="removed").execute()
    assert "/servers/new" in visitor.get("/campaigns/new").text
    db.run("DELETE FROM memberships")
    db.run("DELETE FROM lists")
    assert 'href="/lists"' in visitor.get("/campaigns/new").text


@pytest.mark.slow
def test_a_campaign_is_written_in_a_browser_with_the_mail_beside_it(
    app: Flask, here: Settings, db: Db, server: SmtpServer
) -> None:
    html = (
        "<h1 style='color:rgb(1,2,3)'>Dear {{ name }}</h1><script>parent.document.title='broken out'</script>"
        f"<img src='{DOT}' onload=\"parent.document.title='run'\">"
        "<form action='/lists/new' method=post><button>x</button></form>"
    )
    with serving(app) as site, chromium() as browser, window(browser, site, here, DESKTOP) as seen:
        page = seen.visit("/campaigns/new?list=1")
        page.locator("#name").fill("Spring")
        page.locator("#sender").fill("Shop <news@shop.test>")
        page.locator("#subject").fill("Hello {{ nme }}")
        page.locator("#html").fill(html)
        page.locator("#wrong-subject:not([hidden])").wait_for()
        page.locator("#subject").fill("Hello {{ name }}")
        page.locator(".about strong").filter(has_text="Hello Person 1").wait_for()
        mail = page.frame_locator(".frame iframe").last
        mail.locator("h1").filter(has_text="Dear Person 1").wait_for()
        assert mail.locator("h1").evaluate("e => getComputedStyle(e).color") == "rgb(1, 2, 3)"
        assert page.title().startswith("New campaign")

        page.locator("[data-preview][name=random]").click()
        eventually(lambda: page.locator(".preview [name=email]").input_value() != "", "somebody was chosen")
        page.locator(".views label").nth(1).click()
        eventually(lambda: page.locator(".frame").bounding_box()["width"] == 375, "as wide as a phone")  # type: ignore[index]

        page.locator("#letter button.main").click()
        page.wait_for_url("**/campaigns/1/edit")
        assert page.title().startswith("Spring")
        page.locator("#to").fill("me@author.test")
        page.locator("form[action$='/test'] button").click()
        page.locator(".notice.good").filter(has_text="me@author.test").wait_for()
        assert server.wait_for(1)
        assert seen.sticks_out() == 0
        # What the browser says of the script that it did not run is what was wanted.
        assert [
            error for error in seen.errors if "Blocked script" not in error and "Content Security" not in error
        ] == []
    assert content_of(db, 1).draft.html == html
