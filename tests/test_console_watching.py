"""Schedules and targets in a real browser: read on a desk and a phone, clicked through, watched while they change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis
from flask import Flask
from playwright.sync_api import Browser, expect

from app.addresses import EVERYTHING
from app.config import Settings
from app.db import Db
from app.models.schedules import RunStatus
from app.schedules.checks.recording import DAY_MS
from app.schedules.checks.store import targets_of
from app.schedules.claims import claim_due, finish, start
from app.schedules.search import LATE_MS
from app.schedules.times import MINUTE
from app.web.application import create_app
from app.web.console.words import catalogue
from tests.checks.site import Site
from tests.checks.targets import add_http, add_user, run
from tests.console import DESKTOP, LOOK_NAMES, LOOKS, PHONE, serving, window
from tests.schedules.people import SLACK_MS, add_users, schedule
from tests.test_console_browser import COLOURS, FAINT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Furnished = tuple[Site, int]


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=4", allow_private_addresses=EVERYTHING)


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis) -> Flask:
    return create_app(here, db=db)


@pytest.fixture
def furnished(db: Db, here: Settings) -> Iterator[Furnished]:
    """A user whose shop was down and is up, one who is late, one who is off; 90 days of history. The site, the user."""
    user, now = add_user(db), db.now_ms()
    with Site() as site:
        target = add_http(db, user, site.url("/health"), name="shop", confirmations=1)
        add_http(db, user, site.url(), name="front page")
        site.pages["/health"] = lambda visit: visit.say(503)
        run(db, here, user, now - 20 * MINUTE)
        site.pages["/health"] = lambda visit: visit.say(200, b"ok")
        run(db, here, user, now - 10 * MINUTE)
        days = [(target, now // DAY_MS - back, 288, back % 11 // 9 * back, 9000, 90) for back in range(2, 90)]
        db.run_many("INSERT INTO check_days (target_id, day, checks, failures, latency_sum, latency_max)", days)
        for number in range(3, 40):
            db.run(
                "INSERT INTO check_results (target_id, at, ok, latency_ms) VALUES (?, ?, 1, ?)",
                target, now - number * 10 * MINUTE, 30 + number,
            )  # fmt: skip
        add_users(db, 1, due=now - LATE_MS, last_status="error", last_error="no luck", last_run_at=now - DAY_MS)
        add_users(db, 1, due=now, enabled=0)
        yield site, user


@pytest.mark.parametrize(("language", "size", "dark"), LOOKS, ids=LOOK_NAMES)
def test_every_page_can_be_read(
    app: Flask, here: Settings, browser: Browser, furnished: Furnished, size: tuple[int, int], language: str, dark: bool
) -> None:
    user = furnished[1]
    base = f"/schedules/{user}"
    paths = [
        "/schedules", "/schedules?standing=late", base, f"{base}/targets/1", f"{base}/targets/new",
        f"{base}/targets/new?kind=tcp", "/schedules/2", "/schedules/3",
    ]  # fmt: skip
    with serving(app) as site, window(browser, site, here, size, language, dark) as seen:
        for path in paths:
            page = seen.visit(path)
            expect(page.locator("h1").first).to_be_visible()
            assert seen.sticks_out() == 0, path
            assert page.evaluate(FAINT) == [], path
        assert seen.errors == []


def test_the_plot_stays_while_the_page_around_it_renews_itself(
    app: Flask, here: Settings, browser: Browser, furnished: Furnished, db: Db
) -> None:
    shop, user = furnished
    with serving(app) as site, window(browser, site, here) as seen:
        page = seen.visit(f"/schedules/{user}")
        canvas = page.locator("#latency canvas")
        expect(canvas).to_be_visible()
        assert canvas.evaluate(COLOURS) > 3
        page.evaluate("document.querySelector('#latency canvas').id = 'the-same'")
        shop.pages["/health"] = lambda visit: visit.say(503)
        run(db, here, user)
        expect(page.locator("#live tbody").first).to_contain_text("down")
        claim_due(db, "t", db.now_ms(), 900_000, 1, only=user)
        begun = start(db, user, "t", db.now_ms())
        assert begun
        finish(db, begun, RunStatus.FAILED, "1 of 2 targets failed", 10, 2)
        expect(page.locator("#live .notice")).to_contain_text("1 of 2 targets failed")
        expect(page.locator("#the-same")).to_be_visible()
        assert page.locator("#live figure").count() == 1
        assert seen.errors == []


@pytest.mark.parametrize(("language", "size"), [("en", DESKTOP), ("zh", PHONE)], ids=["en-desk", "zh-phone"])
def test_from_a_new_user_to_a_target_that_is_checked_by_clicking(
    app: Flask, here: Settings, browser: Browser, db: Db, language: str, size: tuple[int, int]
) -> None:
    def word(key: str) -> str:
        found = catalogue(language)[key]
        assert isinstance(found, str)
        return found

    with Site() as shop, serving(app) as site, window(browser, site, here, size, language) as seen:
        page = seen.visit("/schedules")
        page.get_by_label(word("schedules.new_address")).last.fill("ann@example.test")
        page.get_by_role("button", name=word("schedules.make"), exact=True).click()
        page.get_by_role("link", name=word("schedule.add")).click()
        page.get_by_label(word("target.field_url"), exact=True).fill(shop.url("/"))
        page.get_by_label(word("target.field_name"), exact=True).fill("shop")
        page.get_by_role("button", name=word("schedule.add")).click()
        expect(page.get_by_role("link", name="shop")).to_be_visible()
        run(db, here, 1)
        expect(page.locator("#live tbody").first).to_contain_text(word("schedules.state_up"))
        db.run("UPDATE user_monitor_schedules SET next_run_at = ?", db.now_ms() + MINUTE)
        page.get_by_role("button", name=word("schedule.run")).click()
        expect(page.get_by_role("status")).to_contain_text(word("schedule.was_asked"))
        assert schedule(1).next_run_at <= db.now_ms() + SLACK_MS
        page.get_by_role("link", name="shop").click()
        page.get_by_role("button", name=word("schedule.target_off")).click()
        expect(page.locator("#live .badge").first).to_have_text(word("schedules.state_off"))
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name=word("schedule.remove")).click()
        expect(page.get_by_text(word("schedule.no_targets"))).to_be_visible()
        assert targets_of(db, 1) == []
        # What its page was just asking for when it was removed is not there any more.
        assert [error for error in seen.errors if "404" not in error] == []


@pytest.mark.parametrize(("zone", "shown"), [("Asia/Shanghai", "08:00:00"), ("America/New_York", "19:00:00")])
def test_the_next_run_is_shown_in_the_viewers_zone(
    app: Flask, here: Settings, browser: Browser, db: Db, zone: str, shown: str
) -> None:
    (user,) = add_users(db, 1, due=3_786_998_400_000)  # 2090-01-02 at midnight, UTC
    with serving(app) as site, window(browser, site, here, zone=zone) as seen:
        page = seen.visit(f"/schedules/{user}")
        expect(page.locator(".figure .more time").first).to_contain_text(shown)
