"""The pages of lists, imports and subscribers: what their forms do, what they say when something is wrong."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import pytest
import redis
from flask import Flask

from app.config import Settings
from app.db import Db
from app.lists.import_run import work_off
from app.lists.jobs import imports
from app.models.tables import List
from app.web.application import create_app
from app.web.audit import entries
from app.web.console.pages.lists import ENCODINGS
from tests.console import PHONE, Visitor, chromium, logged_in, serving, window
from tests.sending import add_list, add_people, draft
from tests.working import eventually


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=7", upload_mb=1)


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis) -> Flask:
    return create_app(here, db=db)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return logged_in(app)


def test_the_first_list_is_made_and_people_are_imported_into_it(visitor: Visitor, db: Db, here: Settings) -> None:
    assert "There is no list yet" in visitor.get("/lists").text
    made = visitor.post("/lists/new", name="News")
    assert (made.status_code, made.headers["Location"]) == (303, "/lists/1")
    assert "The list is there" in visitor.get("/lists/1").text

    taken = visitor.post(
        "/lists/1/import", file=(io.BytesIO(b"email,name\na@x.test,Ann\nnobody,N\n"), "people.csv"), encoding="utf-8"
    )
    assert taken.status_code == 303
    assert "people.csv" in visitor.get("/lists/1").text
    work_off(db, here, threading.Event())
    eventually(lambda: "2 rows" in visitor.get("/lists/1").text, "what viewers share is made anew")
    assert "/api/imports/1/rejects" in visitor.get("/lists/1").text
    assert visitor.get("/api/imports/1/rejects").text.startswith("line,reason,row\n3,")
    assert "a@x.test" in visitor.get("/lists/1/members").text
    trail = [(one.action, one.detail) for one in entries(db, 10)]
    assert ("lists.take", "303: people.csv into News, import 1") in trail
    assert ("lists.new", "303: list News") in trail


def test_what_is_wrong_stands_at_its_field(visitor: Visitor, db: Db, here: Settings) -> None:
    add_list(db, "News", [])
    visitor.get("/lists")
    twice = visitor.post("/lists/new", name="News")
    assert twice.status_code == 409
    assert 'id="wrong-name" role="alert">there is a list called &#39;News&#39; already' in twice.text
    assert 'value="News"' in twice.text

    unusable = visitor.post("/lists/1/import", file=(io.BytesIO(b"name\nAnn\n"), "people.csv"))
    assert unusable.status_code == 400
    assert "no column holds the address" in unusable.text
    assert 'hx-get="/lists/1/live"' in unusable.text
    too_large = visitor.post("/lists/1/import", file=(io.BytesIO(b"email\n" + b"x" * 2_000_000), "people.csv"))
    assert too_large.status_code == 413
    assert imports(db, 10) == []
    assert list(here.uploads.iterdir()) == []


def test_a_form_from_elsewhere_makes_no_list(visitor: Visitor, db: Db) -> None:
    assert visitor.post("/lists/new", name="News", csrf="x").status_code == 403
    assert List.select().count() == 0


def test_every_encoding_that_is_offered_is_one(visitor: Visitor, db: Db) -> None:
    add_list(db, "News", [])
    visitor.get("/lists/1")
    for encoding in ENCODINGS:
        file = (io.BytesIO("email\na@x.test\n".encode(encoding)), "people.csv")
        assert visitor.post("/lists/1/import", file=file, encoding=encoding).status_code == 303, encoding


def test_an_import_is_stopped(visitor: Visitor, db: Db) -> None:
    add_list(db, "News", [])
    visitor.get("/lists/1")
    visitor.post("/lists/1/import", file=(io.BytesIO(b"email\na@x.test\n"), "people.csv"))
    assert visitor.post("/imports/1/cancel").headers["Location"] == "/lists/1"
    assert imports(db, 1)[0].state == "cancelled"


def test_somebody_is_found_looked_at_and_taken_off(visitor: Visitor, db: Db) -> None:
    people = add_people(db, 60)
    add_list(db, "News", people)
    found = visitor.get("/subscribers?q=person").text
    assert "Person 1<" in found
    assert 'rel="next"' in found
    assert "begins like that" in visitor.get("/subscribers?q=zzz").text

    at = f"/subscribers/{people[0]}"
    page = visitor.get(at).text
    assert "Rome" in page
    assert "No campaign has had this person" in page
    for form, fields, status in (
        ("unsubscribe", {"list": "News"}, "unsubscribed"),
        ("block", {"reason": "she asked"}, "blocked"),
    ):
        assert visitor.post(f"{at}/{form}", **fields).headers["Location"] == at
        assert f'class="badge {status}"' in visitor.get(at).text
    assert "she asked" in visitor.get(at).text
    visitor.post(f"{at}/unblock")
    assert 'class="badge active"' in visitor.get(at).text
    visitor.post(f"{at}/forget")
    gone = visitor.get(at).text
    assert 'class="badge deleted"' in gone
    assert "Rome" not in gone


def test_why_somebody_was_not_mailed_is_answered(visitor: Visitor, db: Db) -> None:
    db.run(
        "INSERT INTO servers (name, host, port, tls, created_at) VALUES ('sink', '127.0.0.1', 25, 'none', 1)"
    )  # fmt: skip
    ann, bob = add_people(db, 2)
    add_list(db, "News", [ann])
    campaign = draft(db, ["News"])
    assert "is on none of the lists" in visitor.get(f"/subscribers/{bob}?why={campaign}").text
    assert visitor.get(f"/subscribers/{bob}?why=99").status_code == 404


@pytest.mark.slow
def test_a_file_is_sent_and_watched_in_a_browser(app: Flask, here: Settings, db: Db) -> None:
    """By clicking, at the width of a phone and in Chinese: send a file, see it come in, get what was rejected."""
    add_list(db, "新闻", [])
    with serving(app) as site, chromium() as browser, window(browser, site, here, PHONE, "zh") as seen:
        page = seen.visit("/lists/1")
        page.locator("#file").set_input_files(
            {"name": "people.csv", "mimeType": "text/csv", "buffer": b"email\na@x.test\nnobody\n"}
        )
        page.locator(".card.form button").click()
        page.locator(".imports tbody tr").wait_for()
        eventually(lambda: imports(db, 1), "the import is there")
        work_off(db, here, threading.Event())
        page.locator(".badge.done").wait_for()
        with page.expect_download() as downloading:
            page.locator(".imports .bad a").click()
        assert downloading.value.path().read_text().startswith("line,reason,row\n3,")
        assert seen.sticks_out() == 0

        page.locator("#file").set_input_files({"name": "no.csv", "mimeType": "text/csv", "buffer": b"name\nAnn\n"})
        page.locator(".card.form button").click()
        page.locator("#wrong-file:not([hidden])").wait_for()
        assert "没有地址列" in page.locator("#wrong-file").inner_text()
        page.locator("#file").set_input_files({"name": "big.csv", "mimeType": "text/csv", "buffer": b"x" * 1_100_000})
        assert "1 MB" in page.locator("#wrong-file").inner_text()
        assert page.locator(".card.form button").is_disabled()
        assert [error for error in seen.errors if "400" not in error] == []
