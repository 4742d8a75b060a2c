"""/api/campaigns: writing, previewing and trying campaigns out over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from flask import Flask

from app.campaigns.lifecycle import find_campaign, schedule_campaign, start_due
from app.config import Settings
from app.db import Db
from app.errors import NotFound
from app.models.tables import Campaign
from app.queues.broker import redis_client
from app.web.application import create_app
from tests.sending import NOW, add_list, add_people, add_test_server
from tests.smtp_server import SmtpServer
from tests.web import Caller, caller, error_of

CAMPAIGN: dict[str, Any] = {
    "name": "Spring", "subject": "Hello {{ name }}", "from": "Shop <news@shop.test>", "lists": ["news"],
    "html": "<p>Dear {{ name }} of {{ city }}</p>", "text": "Dear {{ name }}",
}  # fmt: skip


@pytest.fixture
def server(db: Db) -> Iterator[SmtpServer]:
    with SmtpServer() as server:
        add_test_server(server)
        add_list(db, "news", add_people(db, 5))
        yield server


@pytest.fixture
def client(redis_server: str) -> Iterator[redis.Redis]:
    client = redis_client(f"{redis_server}?db=9")
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def app(db: Db, settings: Settings, redis_server: str, client: redis.Redis, server: SmtpServer) -> Flask:
    return create_app(replace(settings, redis_url=f"{redis_server}?db=9"), db=db)


@pytest.fixture
def author(app: Flask) -> Caller:
    return caller(app, "send")


def created(author: Caller, **said: object) -> dict[str, Any]:
    response = author.post("/api/campaigns", {**CAMPAIGN, **said})
    assert response.status_code == 201, response.text
    document: dict[str, Any] = response.get_json()
    return document


def test_a_campaign_is_written_read_changed_copied_and_thrown_away(author: Caller) -> None:
    made = created(author)
    at = f"/api/campaigns/{made['id']}"
    assert {name: made[name] for name in CAMPAIGN} == CAMPAIGN
    assert (made["servers"], made["weight"], made["status"], made["changes"]) == (["sink"], 1, "draft", True)
    assert author.get(f"{at}/content").get_json() == made

    changed = author.ask("PUT", at, json={"subject": "Hi", "text": None, "version": made["version"]}).get_json()
    assert changed == {**made, "subject": "Hi", "text": None, "version": changed["version"]}
    late = author.ask("PUT", at, json={"subject": "Ho", "version": made["version"]})
    assert (late.status_code, error_of(late)["code"]) == (409, "refused")

    twin = author.post(f"{at}/copy", {}).get_json()
    assert (twin["name"], twin["subject"]) == ("Spring (2)", "Hi")
    assert author.post(f"{at}/copy", {"name": "Summer"}).get_json()["name"] == "Summer"

    assert author.ask("DELETE", at).get_json() == {"id": made["id"], "deleted": True}
    with pytest.raises(NotFound):
        find_campaign(made["id"])
    assert author.ask("DELETE", at).status_code == 404


def test_what_is_scheduled_can_still_be_changed_and_put_off(author: Caller, db: Db) -> None:
    at = f"/api/campaigns/{created(author)['id']}"
    author.post(f"{at}/schedule", {"at": "2099-01-01T00:00:00Z"})
    assert author.ask("PUT", at, json={"subject": "Hi"}).get_json()["scheduled_at"] == "2099-01-01T00:00:00+00:00"
    put_off = author.post(f"{at}/unschedule", {}).get_json()
    assert (put_off["status"], put_off["scheduled_at"]) == ("draft", None)
    assert author.post(f"{at}/unschedule", {}).status_code == 409


def test_what_is_being_sent_stays_as_it_is(author: Caller, db: Db) -> None:
    campaign_id = created(author)["id"]
    schedule_campaign(db, campaign_id, NOW, NOW)
    start_due(db, NOW)
    for method in ("PUT", "DELETE"):
        response = author.ask(method, f"/api/campaigns/{campaign_id}", json={"subject": "Hi"})
        assert (response.status_code, error_of(response)["code"]) == (409, "refused")


@pytest.mark.parametrize(
    ("said", "field", "words"),
    [
        ({"name": ""}, "name", "1 to 200 characters"),
        ({"name": None}, "name", "must be text"),
        ({"from": "x"}, "from", "'x' is not an email address"),
        ({"lists": ["nowhere"]}, "lists", "no list 'nowhere'"),
        ({"lists": "news"}, "lists", "must be a list of names"),
        ({"servers": [1]}, "servers", "must be a list of names"),
        ({"weight": "1"}, "weight", "must be a whole number"),
        ({"weight": 5000}, "weight", "from 1 to 1000"),
        ({"subject": "{{ nme }}"}, "subject", "unknown field 'nme'"),
        ({"html": "<p>{% if %}"}, "html", "line 1"),
        ({"colour": "red"}, "colour", "is not known here"),
    ],
)
def test_a_mistake_is_told_with_its_field(author: Caller, said: dict[str, Any], field: str, words: str) -> None:
    at = f"/api/campaigns/{created(author)['id']}"
    for method, path, document in (
        ("POST", "/api/campaigns", {**CAMPAIGN, **said}),
        ("PUT", at, said),
        ("POST", "/api/campaigns/preview", {**CAMPAIGN, **said}),
    ):
        response = author.ask(method, path, json=document)
        error = error_of(response)
        assert (response.status_code, error["field"]) == (400, field)
        assert words in error["message"]
    assert Campaign.select().count() == 1


@pytest.mark.parametrize("name", ["name", "subject", "from", "lists"])
def test_what_is_missing_is_told(author: Caller, name: str) -> None:
    said = {key: value for key, value in CAMPAIGN.items() if key != name}
    response = author.post("/api/campaigns", said)
    assert (response.status_code, error_of(response)["field"]) == (400, name)


def test_a_body_may_be_large_and_not_larger(author: Caller) -> None:
    made = created(author, html="<p>" + "é" * 400_000 + "</p>")
    assert len(author.get(f"/api/campaigns/{made['id']}/content").get_json()["html"]) == 400_007
    response = author.post("/api/campaigns", {**CAMPAIGN, "html": "x" * 1_000_001})
    assert error_of(response)["field"] == "html"
    response = author.post("/api/campaigns", {**CAMPAIGN, "html": "x" * 15_000_000})
    assert (response.status_code, error_of(response)["code"]) == (413, "too_large")
    assert "14,336 KiB" in error_of(response)["message"]


def test_half_a_character_is_refused(author: Caller) -> None:
    response = author.ask(
        "POST", "/api/campaigns", data=b'{"name": "\\ud800"}', headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, error_of(response)["code"]) == (400, "bad_request")


def test_a_preview_is_of_the_stored_or_of_the_unsaved(author: Caller) -> None:
    campaign_id = created(author)["id"]
    stored = author.get(f"/api/campaigns/{campaign_id}/preview?email=p2@example.test").get_json()
    assert (stored["email"], stored["subject"], stored["text"]) == (
        "p2@example.test",
        "Hello Person 2",
        "Dear Person 2",
    )
    assert stored["html"] == "<p>Dear Person 2 of Rome</p>"
    assert {"name": "To", "value": "Person 2 <p2@example.test>"} in stored["headers"]
    assert stored["size"] > 300
    assert author.get(f"/api/campaigns/{campaign_id}/preview").get_json()["email"] == "p1@example.test"

    unsaved = author.post("/api/campaigns/preview", {**CAMPAIGN, "subject": "Hi", "email": "random"}).get_json()
    assert unsaved["subject"] == "Hi"
    absent = author.get(f"/api/campaigns/{campaign_id}/preview?email=x@example.test")
    assert (absent.status_code, error_of(absent)["field"]) == (400, "email")


def test_a_test_mail_goes_to_its_author(author: Caller, server: SmtpServer) -> None:
    at = f"/api/campaigns/{created(author)['id']}/test"
    answer = author.post(at, {"to": "me@author.test", "email": "p3@example.test", "server": "sink"}).get_json()
    assert (answer["to"], answer["server"]) == ("me@author.test", "sink")
    assert [mail.recipients for mail in server.mails] == [("me@author.test",)]
    for said, field in (({"to": "x"}, "to"), ({}, "to"), ({"to": "me@a.test", "server": "none"}, "server")):
        response = author.post(at, said)
        assert (response.status_code, error_of(response)["field"]) == (400, field)


def test_looking_is_free_and_writing_is_not(app: Flask, author: Caller) -> None:
    campaign_id = created(author)["id"]
    reader = caller(app, "read")
    assert reader.get(f"/api/campaigns/{campaign_id}/content").status_code == 200
    assert reader.get(f"/api/campaigns/{campaign_id}/preview").status_code == 200
    for method, path in (
        ("POST", ""), ("POST", "/preview"), ("PUT", f"/{campaign_id}"), ("DELETE", f"/{campaign_id}"),
        ("POST", f"/{campaign_id}/copy"), ("POST", f"/{campaign_id}/unschedule"), ("POST", f"/{campaign_id}/test"),
    ):  # fmt: skip
        assert reader.ask(method, f"/api/campaigns{path}", json=CAMPAIGN).status_code == 403
