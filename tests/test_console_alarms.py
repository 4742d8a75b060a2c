"""Alarms in a real browser: read on a desk and a phone, a chosen silence kept while the page renews itself, over."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis
from flask import Flask
from playwright.sync_api import Browser, expect

from app.config import Settings
from app.db import Db
from app.web.application import create_app
from app.web.console.words import catalogue
from tests.console import DESKTOP, LOOK_NAMES, LOOKS, PHONE, serving, window
from tests.test_console_browser import FAINT
from tests.test_web_dead import bury

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=8")


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis) -> Flask:
    return create_app(here, db=db)


@pytest.mark.parametrize(("language", "size", "dark"), LOOKS, ids=LOOK_NAMES)
def test_every_page_can_be_read(
    app: Flask, here: Settings, browser: Browser, size: tuple[int, int], language: str, dark: bool
) -> None:
    bury(here, "mail", 2)
    with serving(app) as site, window(browser, site, here, size, language, dark) as seen:
        page = seen.visit("/alarms")
        expect(page.locator("section.alarm", has_text="mail").first).to_be_visible()
        for path in ("/alarms", "/alarms/1", "/alarms/history"):
            expect(seen.visit(path).locator("h1").first).to_be_visible()
            assert seen.sticks_out() == 0, path
            assert page.evaluate(FAINT) == [], path
        assert seen.errors == []


@pytest.mark.parametrize(("language", "size"), [("en", DESKTOP), ("zh", PHONE)], ids=["en-desk", "zh-phone"])
def test_one_is_silenced_while_another_comes_and_counts_again(
    app: Flask, here: Settings, client: redis.Redis, browser: Browser, language: str, size: tuple[int, int]
) -> None:
    words = catalogue(language)
    with serving(app) as site, window(browser, site, here, size, language) as seen:
        page = seen.visit("/alarms")
        alarms = page.locator("section.alarm")
        expect(alarms.first).to_be_visible()
        before = alarms.count()
        page.locator("#silence-1").select_option("480")
        page.locator("#silence-1").focus()
        bury(here, "mail", 2)
        expect(alarms).to_have_count(before + 1)
        expect(page.locator("#silence-1"), "what was chosen before the page renewed itself").to_have_value("480")
        assert page.evaluate("document.activeElement.id") == "silence-1"
        first = page.locator("section.alarm", has=page.locator("#silence-1"))
        first.get_by_role("button", name=str(words["alarms.acknowledge"])).click()
        expect(page.locator("h2", has_text=str(words["alarms.known"])).first).to_be_visible()
        expect(page.locator("section.alarm", has_text=str(words["alarms.quiet_until"]))).to_have_count(1)
        page.get_by_role("button", name=str(words["alarms.remind"])).click()
        expect(page.locator("select[id^=silence-]")).to_have_count(before + 1)
        client.flushdb()
        expect(alarms).to_have_count(before)
        expect(page.locator("tbody tr")).to_have_count(1)
        page.locator("tbody tr a").click()
        expect(page.locator("#main, main").first).to_contain_text(str(words["alarms.event_closed"]))
        assert seen.errors == []
