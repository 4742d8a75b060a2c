"""The pages by what they say: each in both languages, with and without anything to show."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from flask import Flask

from app.campaigns.lifecycle import find_campaign
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.web.application import create_app
from app.web.audit import entries
from app.web.console.frame import all_pages
from app.web.console.words import LANGUAGES
from tests.console import Visitor, logged_in
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.web import plant

NASTY = "<script>alert(1)</script> {{ 7 * 7 }}"


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=15")


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis) -> Flask:
    return create_app(here, db=db)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return logged_in(app)


@pytest.fixture
def campaign(db: Db, here: Settings) -> int:
    """A campaign being sent to 150 people, whose name is a trap."""
    # Nobody listens there, and nobody sends.
    add_server(name="sink", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 150))
    campaign_id = draft(db, ["all"], name=NASTY)
    start(db, campaign_id)
    expand(db, here, campaign_id)
    return campaign_id


def plain_pages(app: Flask) -> list[str]:
    """Every page that stands at an address without parameters."""
    return sorted(
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("console_") and "GET" in (rule.methods or ()) and not rule.arguments
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_shown_in_every_language_when_nothing_is_there_yet(
    app: Flask, visitor: Visitor, language: str
) -> None:
    visitor.client.set_cookie("mailcrew_language", language)
    assert {"/", "/campaigns", "/queues", "/workers", "/scaling", "/audit", "/dead"} <= set(plain_pages(app))
    for path in plain_pages(app):
        page = visitor.get(path)
        assert page.status_code == 200, (path, page.text)
        if not path.endswith("/live") and "dramatiq" not in path:
            assert f'lang="{ {"en": "en", "zh": "zh-Hans"}[language] }"' in page.text, path


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_shown_in_every_language_while_a_campaign_is_sent(
    app: Flask, visitor: Visitor, client: redis.Redis, campaign: int, language: str
) -> None:
    plant(client, 1, is_processing=True, task="deliver", campaign_id=campaign, trouble="no room for a journal")
    visitor.client.set_cookie("mailcrew_language", language)
    own = [f"/campaigns/{campaign}", f"/campaigns/{campaign}/live", f"/campaigns/{campaign}/recipients?state=pending"]
    for path in [*plain_pages(app), *own]:
        page = visitor.get(path)
        assert page.status_code == 200, (path, page.text)
        assert "<script>alert" not in page.text, path
        assert "49" not in re.findall(r"alert\(1\).{0,40}", page.text), path


def test_without_redis_the_pages_say_so(db: Db, here: Settings, campaign: int, tmp_path: Path) -> None:
    visitor = logged_in(create_app(replace(here, redis_url=f"unix://{tmp_path}/none.sock"), db=db))
    for path in ("/", "/queues", "/workers"):
        page = visitor.get(path)
        assert page.status_code == 200
        assert "Redis does not answer" in page.text, path
    assert visitor.get(f"/campaigns/{campaign}").status_code == 200
    assert visitor.get("/dead").status_code == 503


def test_the_language_is_the_browsers_until_somebody_chooses(app: Flask, visitor: Visitor) -> None:
    assert "队列" in visitor.get("/queues", **{"Accept-Language": "fr, zh-TW;q=0.8, en;q=0.7"}).text
    assert "Queues" in visitor.get("/queues", **{"Accept-Language": "fr"}).text
    visitor.client.post("/preferences", data={"language": "zh", "next": "/queues"})
    assert "队列" in visitor.get("/queues", **{"Accept-Language": "en"}).text
    answer = visitor.client.post("/preferences", data={"language": "tlh", "theme": "pink", "next": "https://evil.test"})
    assert answer.headers["Location"] == "/"
    assert "Set-Cookie" not in answer.headers


def test_the_theme_is_the_systems_until_somebody_chooses(visitor: Visitor) -> None:
    assert 'data-theme="auto"' in visitor.get("/queues").text
    visitor.client.post("/preferences", data={"theme": "dark"})
    assert 'data-theme="dark"' in visitor.get("/queues").text


def test_a_part_is_sent_again_only_when_it_has_changed(
    visitor: Visitor, client: redis.Redis, campaign: int, app: Flask
) -> None:
    page = visitor.get("/workers").text
    tag = page.partition('hx-ptag="')[2].partition('"')[0]
    assert visitor.get("/workers/live", **{"HX-PTag": tag}).status_code == 304
    plant(client, 7)
    app.extensions["mailcrew"].forget_shared()
    changed = visitor.get("/workers/live", **{"HX-PTag": tag})
    assert (changed.status_code, changed.headers["HX-PTag"] != tag) == (200, True)
    assert "send_7" in changed.text
    assert "<html" not in changed.text


def test_many_viewers_cost_one_look(app: Flask, client: redis.Redis, db: Db) -> None:
    viewers = [logged_in(app) for _ in range(5)]
    app.extensions["mailcrew"].forget_shared()
    plant(client, 1)
    before = client.info("commandstats")["cmdstat_hgetall"]["calls"]
    looks = {viewer.get("/queues/live").text for viewer in viewers}
    after = client.info("commandstats")["cmdstat_hgetall"]["calls"]
    # A slow machine may need a second one, as a look is good for a second.
    assert after - before < len(viewers)
    assert len(looks) == 1


def test_each_viewer_gets_the_form_token_of_their_own_session(app: Flask, campaign: int) -> None:
    tokens = set()
    for _ in range(2):
        visitor = logged_in(app)
        part = visitor.get(f"/campaigns/{campaign}/live").text
        found = set(re.findall(r'name="csrf" value="(\w+)"', part))
        assert len(found) == 1
        tokens |= found
    assert len(tokens) == 2


def test_a_campaign_is_paused_resumed_and_cancelled_by_buttons(visitor: Visitor, db: Db, campaign: int) -> None:
    path = f"/campaigns/{campaign}"
    for button, status, said in (
        ("pause", "paused", "Paused: no server accepts another mail"),
        ("resume", "sending", "The campaign goes on."),
        ("cancel", "cancelled", "The campaign is cancelled."),
    ):
        assert f'action="{path}/{button}"' in visitor.get(path).text
        assert visitor.post(f"{path}/{button}").headers["Location"] == path
        assert find_campaign(campaign).status == status
        assert said in visitor.get(path).text
        assert said not in visitor.get(path).text, "said once"
    assert "<form" not in re.sub(r".*?<main", "", visitor.get(f"{path}/live").text, flags=re.DOTALL)
    assert [(one.action, one.subject) for one in entries(db, 3)] == [
        (f"campaign.{verb}", str(campaign)) for verb in ("cancel", "resume", "pause")
    ]


def test_what_is_not_possible_is_told_on_a_page(visitor: Visitor, campaign: int) -> None:
    visitor.get(f"/campaigns/{campaign}")
    refused = visitor.post(f"/campaigns/{campaign}/schedule")
    assert refused.status_code == 409
    assert "only a draft can be scheduled" in refused.text
    assert visitor.get("/campaigns/99").status_code == 404
    assert visitor.post(f"/campaigns/{campaign}/boost", workers="many").status_code == 400
    assert visitor.post(f"/campaigns/{campaign}/unknown", action="forget").status_code == 400


def test_a_draft_is_scheduled_in_the_viewers_zone(visitor: Visitor, db: Db) -> None:
    add_server(name="sink", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 1))
    path = f"/campaigns/{draft(db, ['all'])}"
    visitor.get(path)
    assert visitor.post(f"{path}/schedule", at="2090-01-01T00:00:00.000Z").status_code == 303
    assert 'datetime="2090-01-01T00:00:00Z"' in visitor.get(path).text


def test_unknown_mails_are_settled_by_a_button(visitor: Visitor, db: Db, campaign: int) -> None:
    db.run("UPDATE recipients SET state = 'unknown' WHERE batch = 2")
    db.run("UPDATE batches SET unknown = 50, pending = 0, state = 'done' WHERE number = 2")
    path = f"/campaigns/{campaign}"
    assert "Nobody knows whether 50 mails arrived" in visitor.get(path).text
    visitor.post(f"{path}/unknown", action="settle")
    assert "50 mails count as delivered." in visitor.get(path).text
    assert db.value("SELECT COUNT(*) FROM recipients WHERE state = 'sent'") == 50


def test_the_campaigns_are_listed_by_state_page_by_page(visitor: Visitor, db: Db, campaign: int) -> None:
    for number in range(40):
        draft(db, ["all"], name=f"draft {number}.")
    first = visitor.get("/campaigns").text
    assert "draft 39." in first
    assert "draft 9." not in first
    older = first.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
    assert "draft 9." in visitor.get(older).text
    only = visitor.get("/campaigns?status=sending").text
    assert "draft 39." not in only
    assert f"/campaigns/{campaign}" in only
    assert "No campaign is in this state." in visitor.get("/campaigns?status=failed").text


def test_a_worker_that_is_not_ours_cannot_be_stopped(visitor: Visitor, client: redis.Redis) -> None:
    plant(client, 1)
    assert "send_1" in visitor.get("/workers").text
    for wrong, status in (({"pid": "1"}, 404), ({"pid": "x"}, 400), ({}, 400), ({"pid": "1", "queue": "send"}, 400)):
        assert visitor.post("/workers/stop", **wrong).status_code == status


def test_the_overview_tells_what_needs_somebody(visitor: Visitor, client: redis.Redis, campaign: int) -> None:
    plant(client, 1, queues=["mail"], trouble="sending: no room for a journal in /j")
    page = visitor.get("/").text
    assert "supervisord does not run" in page
    assert "no room for a journal" in visitor.get("/alarms").text
    assert re.search(r"send\s*<span class=\"badge bad\">no worker</span>", page)
    plant(client, 2)
    visitor.post("/workers/stop", pid="1")  # forgets what viewers share
    assert "no worker" not in visitor.get("/").text


def test_decisions_are_shown_with_their_reasons(visitor: Visitor, db: Db) -> None:
    for workers, target in ((2, 2), (2, 6)):
        db.run(
            "INSERT INTO scaling_decisions (at, host, queue, workers, target, backlog, reason) "
            "VALUES (?, 'h', 'send', ?, ?, 900, 'because <b>')",
            db.now_ms(), workers, target,
        )  # fmt: skip
    page = visitor.get("/scaling").text
    assert "2 → 6" in page
    assert "because &lt;b&gt;" in page
    assert page.count("because") == 2
    assert visitor.get("/scaling?changes=1").text.count("because") == 1


def test_every_page_of_the_navigation_is_there(app: Flask, visitor: Visitor) -> None:
    page = visitor.get("/").text
    for one in all_pages():
        if one.nav:
            assert f'href="{one.path}"' in page
            assert visitor.get(one.path).status_code == 200
