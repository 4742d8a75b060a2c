"""The page of logs in a real browser: it is followed, folded, read on a phone, in the viewer's zone."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from flask import Flask
from playwright.sync_api import Browser, expect

from app.config import Settings
from app.db import Db
from app.web.application import create_app
from app.web.console.words import LANGUAGES
from tests.console import DESKTOP, PHONE, serving, window
from tests.test_console_browser import FAINT
from tests.test_log_search import BEGIN, Process, line

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]


@pytest.fixture
def app(db: Db, settings: Settings) -> Flask:
    Process(settings.logs).write(
        line(1, "campaign started", campaign_id=3), line(2, "slow", "warning", reason="a " + "long" * 80),
        line(3, "task failed", "error", traceback="Traceback (most recent call last):\n" + "  File x\n" * 40),
    )  # fmt: skip
    return create_app(settings, db=db)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_it_can_be_read(
    app: Flask, settings: Settings, browser: Browser, size: tuple[int, int], language: str, dark: bool
) -> None:
    with serving(app) as site, window(browser, site, settings, size, language, dark) as seen:
        page = seen.visit("/logs?level=info&since=2026-01-01T00:00:00Z")
        page.locator(".log summary").click()
        expect(page.locator(".log pre")).to_be_visible()
        assert seen.sticks_out() == 0
        assert page.evaluate(FAINT) == []
        assert seen.errors == []


def test_what_is_logged_comes_by_itself_while_what_is_unfolded_stays_so(
    app: Flask, settings: Settings, browser: Browser
) -> None:
    with serving(app) as site, window(browser, site, settings) as seen:
        page = seen.visit("/logs?name=send")
        expect(page.locator(".log")).to_have_count(3)
        page.locator(".log summary").click()
        Process(settings.logs, "send_01").write(line(time.time() - BEGIN, "of another worker"))
        Process(settings.logs, "mail_00").write(line(time.time() - BEGIN, "of another queue"))
        expect(page.locator(".log").first).to_contain_text("of another worker")
        Process(settings.logs).write(line(time.time() - BEGIN, "campaign sent"))
        expect(page.locator(".log").first).to_contain_text("campaign sent")
        expect(page.locator(".log")).to_have_count(5)
        expect(page.locator(".log pre")).to_be_visible()
        assert seen.errors == []


def test_a_burst_begins_the_page_anew(app: Flask, settings: Settings, browser: Browser) -> None:
    with serving(app) as site, window(browser, site, settings) as seen:
        page = seen.visit("/logs")
        page.evaluate("window.before = true")
        Process(settings.logs).write(*(line(time.time() - BEGIN, f"number {number}") for number in range(700)))
        expect(page.locator(".log").first).to_contain_text("number 699")
        assert page.evaluate("window.before") is None
        expect(page.locator(".log")).to_have_count(200)


@pytest.mark.parametrize(("zone", "hour"), [("Asia/Shanghai", "08"), ("America/New_York", "19")])
def test_instants_and_conditions_are_in_the_viewers_zone(
    db: Db, settings: Settings, browser: Browser, zone: str, hour: str
) -> None:
    midnight = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    Process(settings.logs).write(line(midnight - BEGIN + 0.25, "at midnight"))
    with serving(create_app(settings, db=db)) as site, window(browser, site, settings, zone=zone) as seen:
        page = seen.visit("/logs")
        expect(page.locator(".log time")).to_contain_text(f"{hour}:00:00.250")
        page.locator(".folded summary").click()
        since = page.locator("[data-zoned=since]")
        since.fill("2026-11-21T00:00")
        page.get_by_role("button", name="Search").click()
        page.wait_for_url("**since=2026-11-2*")
        expect(page.locator("[data-zoned=since]")).to_have_value("2026-11-21T00:00")
        expect(page.locator(".log")).to_have_count(1)
