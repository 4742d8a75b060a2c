"""Every page can be used by everybody: axe-core has nothing to say, and the keyboard reaches all there is to use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from app.config import Settings
from app.db import Db
from app.queues.broker import redis_client
from tests.console import DESKTOP, PHONE, logged_in, serving, window
from tests.everything import everything

#: What the law asks for (WCAG 2.2, A and AA), and what axe-core calls good practice besides.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
#: More stops than any page has.
MOST_STOPS = 400

#: Marks what can be used by its number, and tells how many there are. Of radio buttons one stands for its group.
MARK = """() => {
  const usable = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
  let count = 0;
  for (const one of document.querySelectorAll(usable)) {
    const inactive = one.type === "radio" && !one.checked;
    if (one.checkVisibility({checkVisibilityCSS: true}) && !one.disabled && !inactive) one.dataset.stop = count++;
  }
  return count;
}"""
#: What has the focus: its number, null behind the last; and whether it can be seen that it has.
STOP = """() => {
  const at = document.activeElement;
  if (at === document.body || !at) return null;
  const seen = at.closest("label") ?? at;
  const outlined = (one) => getComputedStyle(one).outlineStyle !== "none";
  return {stop: at.dataset.stop ?? "", shown: outlined(at) || outlined(seen), text: at.outerHTML.slice(0, 120)};
}"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # How browsers show it is the same with both.
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]


@pytest.fixture
def here(settings: Settings, redis_server: str) -> Iterator[Settings]:
    found = replace(settings, redis_url=f"{redis_server}?db=11")
    client = redis_client(found.redis_url)
    client.flushdb()
    yield found
    client.flushdb()
    client.close()


@pytest.fixture
def app(db: Db, here: Settings) -> Flask:
    return everything(db, here)


def every_page(app: Flask) -> list[str]:
    """Whatever answers with a page: parts of pages, downloads and the frame of somebody else's dashboard do not."""
    visitor = logged_in(app)
    found = []
    for rule in app.url_map.iter_rules():
        if "GET" not in (rule.methods or ()) or rule.rule.startswith(("/api/", "/dramatiq", "/static/")):
            continue
        _, path = rule.build(dict.fromkeys(rule.arguments, 1)) or ("", "")
        answer = visitor.get(path)
        if answer.status_code == 200 and answer.text.lstrip().startswith("<!doctype html>"):
            found.append(path)
    return found


def test_there_are_pages_to_look_at(app: Flask) -> None:
    pages = every_page(app)
    assert len(pages) > 20
    assert {"/", "/campaigns/1", "/campaigns/1/edit", "/lists/1", "/schedules/1/targets/1"} <= set(pages)


def violations(page: Page) -> list[str]:
    found = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]})
    return [
        f"{page.url}: {one['id']}: {one['help']}: {[node['html'][:150] for node in one['nodes']][:4]}"
        for one in found.response["violations"]
    ]


def test_axe_finds_what_is_wrong(app: Flask, here: Settings, browser: Browser) -> None:
    with serving(app) as site, window(browser, site, here) as seen:
        page = seen.visit("/queues")
        page.evaluate("document.querySelector('main').innerHTML = '<h1>x</h1><h4>y</h4><input><img src=x>'")
        found = " ".join(violations(page))
        assert all(rule in found for rule in ("label:", "image-alt:", "heading-order:"))


@pytest.mark.parametrize(
    ("size", "dark", "language"),
    [(DESKTOP, False, "en"), (PHONE, True, "zh")],
    ids=["desk-light", "phone-dark"],
)
def test_axe_finds_nothing(
    app: Flask, here: Settings, browser: Browser, size: tuple[int, int], dark: bool, language: str
) -> None:
    wrong = []
    with serving(app) as site, window(browser, site, here, size, language, dark) as seen:
        for path in every_page(app):
            wrong += violations(seen.visit(path))
        seen.page.context.clear_cookies()
        wrong += violations(seen.visit("/login"))
    assert wrong == []


def test_the_keyboard_reaches_whatever_can_be_used_in_its_order(app: Flask, here: Settings, browser: Browser) -> None:
    with serving(app) as site, window(browser, site, here) as seen:
        # What renews itself would make marked elements anew.
        seen.page.route("**/live*", lambda route: route.abort())
        for path in every_page(app):
            page = seen.visit(path)
            if page.locator(".about").count():
                expect(page.locator(".about > *").first).to_be_visible()
            assert stops(page) == list(range(page.evaluate(MARK))), path


def stops(page: Page) -> list[int]:
    """Where the key Tab leads from the beginning of a page, which is the way past the navigation, to its end."""
    page.evaluate(MARK)
    page.locator(".skip").focus()
    reached: list[int] = []
    for _ in range(MOST_STOPS):
        at = page.evaluate(STOP)
        if at is None:
            break
        # A field for a date or time has several stops inside.
        if at["stop"] and int(at["stop"]) not in reached:
            assert at["shown"], f"{page.url}: nobody sees that this has the focus: {at['text']}"
            reached.append(int(at["stop"]))
        page.keyboard.press("Tab")
    return reached
