"""The console in a real browser: what people click, see and can read, on a desk and on a phone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis
from flask import Flask
from playwright.sync_api import Browser, expect

from app.campaigns.lifecycle import find_campaign
from app.config import Settings
from app.db import Db
from app.mail.servers import add_server
from app.web.application import create_app
from app.web.console.frame import all_pages
from app.web.series import MINUTE_MS
from tests.console import LOOK_NAMES, LOOKS, PHONE, serving, window
from tests.sending import NOW, add_list, add_people, draft, expand, start
from tests.web import plant

#: Those that stand in no navigation, beside those that do.
INNER = ["/campaigns/1", "/campaigns/1/recipients"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    # What pages show is tested on both databases elsewhere; here it is how browsers show it.
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

#: The elements whose text stands out too little from what is behind it (WCAG 2.2, 1.4.3), as [text, ratio].
FAINT = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const over = (top, under) => top.slice(0, 3).map((one, i) => one * top[3] + under[i] * (1 - top[3]));
  const light = (colour) => { const [r, g, b] = colour.map((one) => { one /= 255;
    return one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (element) => { const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]); };
  const found = [];
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const element = words.currentNode.parentElement, text = words.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || ["SCRIPT", "OPTION", "TITLE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element), back = behind(element);
    const [high, low] = [light(over(rgba(style.color), back)), light(back)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push([text.slice(0, 40), ratio.toFixed(2)]);
  }
  return found;
}"""


#: How many colours a canvas has.
COLOURS = """(one) => {
  const drawn = one.getContext("2d").getImageData(0, 0, one.width, one.height);
  return new Set(new Uint32Array(drawn.data.buffer)).size;
}"""


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Settings:
    return replace(settings, redis_url=f"{redis_server}?db=10")


@pytest.fixture
def app(db: Db, here: Settings, client: redis.Redis) -> Flask:
    """A campaign under way that has had some trouble, and a worker."""
    server = add_server(name="sink", host="127.0.0.1", port=1, tls="none", now=NOW)
    add_list(db, "all", add_people(db, 250))
    campaign_id = draft(db, ["all"])
    start(db, campaign_id)
    expand(db, here, campaign_id)
    db.run("UPDATE recipients SET state = 'failed', reason = '550 no such user' WHERE batch = 1")
    db.run("UPDATE recipients SET state = 'unknown', reason = 'in doubt' WHERE batch = 2")
    db.run("UPDATE batches SET failed = 100, pending = 0, state = 'done' WHERE number = 1")
    db.run("UPDATE batches SET unknown = 100, pending = 0, state = 'done' WHERE number = 2")
    now = db.now_ms()
    for minutes in range(2, 6):
        db.run(
            "INSERT INTO deliveries (server_id, minute, campaign_id, attempts, sent, failed) "
            "VALUES (?, ?, ?, 60, 50, 10)",
            server, now // MINUTE_MS - minutes, campaign_id,
        )  # fmt: skip
        db.run(
            "INSERT INTO scaling_decisions (at, host, queue, workers, target, backlog, reason, bound_by) "
            "VALUES (?, 'h', 'send', ?, ?, ?, 'backlog 50', 'max')",
            now - minutes * MINUTE_MS, 6 - minutes, 7 - minutes, minutes * 40,
        )  # fmt: skip
    plant(client, 1, is_processing=True, task="deliver", campaign_id=campaign_id)
    return create_app(here, db=db)


@pytest.mark.parametrize(("language", "size", "dark"), LOOKS, ids=LOOK_NAMES)
def test_every_page_can_be_read(
    app: Flask, here: Settings, browser: Browser, size: tuple[int, int], language: str, dark: bool
) -> None:
    """Nothing sticks out, nothing is faint, and the browser has no complaint (a script or style it refused)."""
    with serving(app) as site, window(browser, site, here, size, language, dark) as seen:
        for path in [*INNER, *(one.path for one in all_pages() if one.nav and one.name != "dramatiq")]:
            page = seen.visit(path)
            expect(page.locator("h1").first).to_be_visible()
            assert seen.sticks_out() == 0, path
            assert page.evaluate(FAINT) == [], path
        assert seen.errors == []


def test_a_number_changes_on_the_page_without_anybody_loading_it(
    app: Flask, here: Settings, browser: Browser, client: redis.Redis
) -> None:
    with serving(app) as site, window(browser, site, here) as seen:
        page = seen.visit("/workers")
        expect(page.locator("#live")).to_contain_text("send_1")
        page.evaluate("window.sameWindow = true")
        plant(client, 2)
        expect(page.locator("#live")).to_contain_text("send_2")
        assert page.evaluate("window.sameWindow")


def test_what_a_person_is_typing_stays_while_the_page_renews_itself(
    app: Flask, here: Settings, browser: Browser, client: redis.Redis
) -> None:
    with serving(app) as site, window(browser, site, here) as seen:
        page = seen.visit("/campaigns/1")
        page.get_by_label("Address begins with").fill("p24")
        page.get_by_label("How many").fill("3")
        expect(page.locator("#live")).to_contain_text("0 of its own")
        with page.expect_response(
            lambda response: response.url.endswith("/campaigns/1/live") and response.status == 200, timeout=60_000
        ):
            plant(client, 2)
        assert page.get_by_label("Address begins with").input_value() == "p24"
        assert page.get_by_label("How many").input_value() == "3"


def test_when_the_server_goes_the_page_says_so_and_recovers(app: Flask, here: Settings, browser: Browser) -> None:
    with serving(app) as site, window(browser, site, here) as seen:
        page = seen.visit("/queues")
        expect(page.locator("#lost")).to_be_hidden()
        page.route("**/queues/live", lambda route: route.abort())
        expect(page.locator("#lost")).to_be_visible(timeout=30_000)
        page.unroute("**/queues/live")
        expect(page.locator("#lost")).to_be_hidden(timeout=30_000)


def test_a_session_that_ends_elsewhere_leads_to_the_login(app: Flask, here: Settings, browser: Browser) -> None:
    with serving(app) as site, window(browser, site, here) as seen:
        page = seen.visit("/queues")
        page.context.clear_cookies()
        page.wait_for_url("**/login?next=/queues")


def test_a_campaign_is_paused_after_a_click_and_cancelled_after_a_question(
    app: Flask, here: Settings, browser: Browser
) -> None:
    with serving(app) as site, window(browser, site, here) as seen:
        page = seen.visit("/campaigns/1")
        page.get_by_role("button", name="Pause").click()
        expect(page.get_by_role("status")).to_contain_text("Paused")
        page.wait_for_load_state()  # it is the script that asks
        assert find_campaign(1).status == "paused"
        page.once("dialog", lambda dialog: dialog.dismiss())
        page.get_by_role("button", name="Cancel campaign").click()
        assert find_campaign(1).status == "paused"
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Cancel campaign").click()
        expect(page.locator("#live .badge").first).to_have_text("cancelled")
        assert find_campaign(1).status == "cancelled"


@pytest.mark.parametrize(("zone", "shown"), [("Asia/Shanghai", "08:00"), ("America/New_York", "19:00")])
def test_times_are_shown_in_the_viewers_zone_and_chosen_in_it(
    app: Flask, here: Settings, browser: Browser, db: Db, zone: str, shown: str
) -> None:
    later = draft(db, ["all"])
    with serving(app) as site, window(browser, site, here, zone=zone) as seen:
        page = seen.visit(f"/campaigns/{later}")
        local = {"Asia/Shanghai": "2090-01-02T08:00", "America/New_York": "2090-01-01T19:00"}[zone]
        page.get_by_label("When").fill(local)
        page.get_by_role("button", name="Schedule").click()
        expect(page.locator(".figures time").last).to_contain_text(shown)
        assert find_campaign(later).scheduled_at == 3_786_998_400_000, "the same instant in both"


def test_plots_are_drawn_and_tell_their_values_under_the_cursor(app: Flask, here: Settings, browser: Browser) -> None:
    with serving(app) as site, window(browser, site, here) as seen:
        page = seen.visit("/scaling")
        expect(page.locator(".plot canvas").first).to_be_visible()
        assert page.locator(".plot canvas").first.evaluate(COLOURS) > 3
        box = page.locator(".plot .u-over").first.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        expect(page.locator(".note").first).to_have_text("backlog 50")
        expect(page.locator(".legend li").nth(1)).to_contain_text("Backlog: ")
        assert seen.errors == []


def test_the_keyboard_reaches_everything_and_shows_where_it_is(app: Flask, here: Settings, browser: Browser) -> None:
    with serving(app) as site, window(browser, site, here) as seen:
        page = seen.visit("/campaigns/1")
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        reached = []
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.textContent.trim()"))
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            if page.evaluate("document.activeElement === document.body"):
                break
            assert outline != "none", reached[-1]
        assert {"Pause", "Cancel campaign", "Set", "Search", "Show all recipients"} <= set(reached)


def test_on_a_phone_the_menu_opens_without_a_script(app: Flask, here: Settings, browser: Browser) -> None:
    with serving(app) as site, window(browser, site, here, PHONE) as seen:
        seen.page.route("**/*.js*", lambda route: route.abort())
        page = seen.visit("/queues")
        link = page.locator(".menu").get_by_role("link", name="Workers")
        expect(link).to_be_hidden()
        page.locator("summary").click()
        link.click()
        page.wait_for_url("**/workers")


def test_language_and_theme_are_switched_by_buttons(app: Flask, here: Settings, browser: Browser) -> None:
    with serving(app) as site, window(browser, site, here) as seen:
        page = seen.visit("/queues")
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.locator(".wide").get_by_role("button", name="Dark").click()
        page.locator("html[data-theme=dark]").wait_for()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
        page.locator(".wide").get_by_role("button", name="中文").click()
        expect(page.locator("h1")).to_have_text("队列")
