"""The page of rules of suppression: found, added, removed, and files of them."""

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
from app.lists.suppressing import listed
from app.web.application import create_app
from tests.console import PHONE, Visitor, chromium, logged_in, serving, window
from tests.sending import add_list, add_people
from tests.working import eventually


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=11", upload_mb=1)


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis) -> Flask:
    return create_app(here, db=db)


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return logged_in(app)


def rules(db: Db) -> list[str]:
    return [str(one.rule) for one in listed(db)]


def test_rules_are_added_found_and_removed(visitor: Visitor, db: Db) -> None:
    add_list(db, "all", add_people(db, 3))
    assert "There is no rule yet" in visitor.get("/suppressions").text
    visitor.post("/suppressions/add", rule="p1@example.test", reason="she <asked>")
    page = visitor.get("/suppressions").text
    assert "p1@example.test is never mailed again; one subscriber is blocked" in page
    assert "she &lt;asked&gt;" in page
    visitor.post("/suppressions/add", rule="@example.test")
    page = visitor.get("/suppressions").text
    assert "@example.test is never mailed again. Its subscribers are being marked" in page
    assert "being applied" in page
    visitor.post("/suppressions/add", rule="@example.test")
    assert "was suppressed already" in visitor.get("/suppressions").text
    found = visitor.get("/suppressions?q=p3@example.test").text
    assert 'value="@example.test"' in found
    assert 'value="p1@example.test"' not in found
    assert "No rule begins with zzz" in visitor.get("/suppressions?q=zzz").text
    visitor.post("/suppressions/remove", rule="p1@example.test")
    assert "The rule p1@example.test is gone" in visitor.get("/suppressions").text
    visitor.post("/suppressions/remove", rule="p1@example.test")
    assert "There is no rule p1@example.test any more" in visitor.get("/suppressions").text
    assert rules(db) == ["@example.test"]


def test_many_rules_come_page_by_page(visitor: Visitor, db: Db) -> None:
    db.run_many(
        "INSERT INTO suppressions (kind, value, reason, created_at)",
        [("address", f"p{number:03}@x.test", "x", 1) for number in range(70)],
    )
    first = visitor.get("/suppressions").text
    assert "p049@x.test" in first
    assert "p050@x.test" not in first
    link = first.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0].replace("&amp;", "&")
    second = visitor.get(link).text
    assert "p050@x.test" in second
    assert "p049@x.test" not in second
    assert 'rel="next"' not in second
    assert visitor.get("/suppressions?after=x").status_code == 400


def test_what_is_wrong_stands_at_its_field(visitor: Visitor, db: Db) -> None:
    visitor.get("/suppressions")
    wrong = visitor.post("/suppressions/add", rule="nobody", reason="why")
    assert wrong.status_code == 400
    assert 'id="wrong-rule" role="alert"' in wrong.text
    assert 'value="nobody"' in wrong.text
    assert 'value="why"' in wrong.text
    unusable = visitor.post("/suppressions/import", file=(io.BytesIO(b"name\nAnn\n"), "rules.csv"))
    assert unusable.status_code == 400
    assert "no column holds addresses or domains" in unusable.text
    too_large = visitor.post("/suppressions/import", file=(io.BytesIO(b"a@x.test\n" * 200_000), "rules.csv"))
    assert too_large.status_code == 413
    assert rules(db) == []
    assert imports(db, 10) == []


def test_a_file_is_read_watched_and_stopped(visitor: Visitor, db: Db, here: Settings) -> None:
    add_list(db, "all", add_people(db, 3))
    visitor.get("/suppressions")
    file = (io.BytesIO(b"p1@example.test\nnobody\n"), "complaints.csv")
    assert visitor.post("/suppressions/import", file=file, reason="complaints").headers["Location"] == "/suppressions"
    assert "complaints.csv" in visitor.get("/suppressions").text
    work_off(db, here, threading.Event())
    eventually(lambda: "one subscriber blocked" in visitor.get("/suppressions").text, "what viewers share is made anew")
    assert "/api/imports/1/rejects" in visitor.get("/suppressions").text
    assert "complaints.csv" in visitor.get("/lists").text
    visitor.post("/suppressions/import", file=(io.BytesIO(b"p2@example.test\n"), "more.csv"))
    assert visitor.post("/imports/2/cancel").headers["Location"] == "/suppressions"
    assert rules(db) == ["p1@example.test"]


def test_a_form_from_elsewhere_changes_nothing(visitor: Visitor, db: Db) -> None:
    visitor.get("/suppressions")
    visitor.post("/suppressions/add", rule="a@b.example")
    for path in ("add", "remove", "import"):
        assert visitor.post(f"/suppressions/{path}", csrf="x", rule="a@b.example").status_code == 403
    assert rules(db) == ["a@b.example"]


@pytest.mark.slow
def test_a_file_of_rules_is_sent_in_a_browser(app: Flask, here: Settings, db: Db) -> None:
    """By clicking, at the width of a phone and in Chinese."""
    with serving(app) as site, chromium() as browser, window(browser, site, here, PHONE, "zh") as seen:
        page = seen.visit("/suppressions")
        page.locator("#file").set_input_files(
            {"name": "rules.csv", "mimeType": "text/csv", "buffer": b"a@x.test\n@y.test\nnobody\n"}
        )
        page.locator("#field-why").fill("投诉")
        page.locator("form[data-upload] button").click()
        page.locator(".imports tbody tr").wait_for()
        eventually(lambda: imports(db, 1), "the import is there")
        work_off(db, here, threading.Event())
        page.locator(".badge.done").wait_for()
        assert {one.reason for one in listed(db)} == {"投诉"}
        assert seen.sticks_out() == 0
        page.locator("#field-rule").fill("@z.test")
        page.locator("#field-rule").press("Enter")
        page.locator(".notice.good").wait_for()
        assert "@z.test" in rules(db)
        assert seen.sticks_out() == 0
        assert seen.errors == []
