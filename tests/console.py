"""What the tests of the console share: the pages served for real, and a Chromium that looks at them."""

from __future__ import annotations

import atexit
import logging
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from flask import Flask
from playwright.sync_api import Browser, Page, expect, sync_playwright
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from app.config import Settings
from app.secrets import secret
from app.web.resources import EXTENSION
from tests.services import need

DESKTOP = (1280, 900)
PHONE = (390, 844)
#: Language, size and dark or not: each pair of them once, for what depends on all three is rare and a browser slow.
LOOKS = [("en", DESKTOP, False), ("zh", PHONE, False), ("en", PHONE, True), ("zh", DESKTOP, True)]
LOOK_NAMES = ["en-desk-light", "zh-phone-light", "en-phone-dark", "zh-desk-dark"]
# A page that is slow because all cores are busy is none that is wrong.
expect.set_options(timeout=60_000)
BROWSER = {"Accept": "text/html,application/xhtml+xml"}


class Visitor:
    """A browser without a window: keeps its cookies, sends the form token of the last page."""

    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()
        self.token = ""

    def get(self, path: str, **headers: str) -> TestResponse:
        response = self.client.get(path, headers={**BROWSER, **headers})
        found = re.search(r'name="csrf" value="(\w+)"', response.text)
        self.token = found[1] if found else self.token
        return response

    def post(self, path: str, **fields: object) -> TestResponse:
        """Send a form of the last page; a field `csrf` given here wins."""
        return self.client.post(path, data={"csrf": self.token, **fields}, headers=BROWSER)


def come_in(app: Flask) -> Visitor:
    """The administrator, by the front door."""
    visitor = Visitor(app)
    visitor.get("/login")
    settings: Settings = app.extensions[EXTENSION].settings
    assert visitor.post("/login", password=secret(settings, "ADMIN_PASSWORD")).status_code == 303
    return visitor


def logged_in(app: Flask) -> Visitor:
    """The administrator, who came in before: looking at a password is slow, and meant to be."""
    visitor = Visitor(app)
    sessions = app.extensions[EXTENSION].sessions
    visitor.client.set_cookie(sessions.cookie, sessions.sign(sessions.begin()))
    return visitor


@contextmanager
def serving(app: Flask) -> Iterator[str]:
    """The application on a free port, each request on a thread of its own; its address."""
    # Thousands of lines would hide what a test that fails has to say.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A Chromium without a window, the same for all tests of a process: two at once do not get on.

    Not there: the test is skipped at home and fails in CI.
    """
    yield _launched(browser_program())


def browser_program() -> str:
    """The Chromium that is there, rather the one that has no windows at all: it takes half the time."""
    return shutil.which("chromium-headless-shell") or need("chromium")


@cache
def _launched(program: str) -> Browser:
    playwright = sync_playwright().start()
    # As root, which containers are, Chromium wants no sandbox of its own.
    browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
    # Not by a fixture: that would end it before the tests of those who did not ask for one.
    atexit.register(playwright.stop)
    atexit.register(browser.close)
    return browser


class Window:
    """One browser window that is logged in. What its pages complain about in the console is collected in `errors`."""

    def __init__(self, page: Page, site: str) -> None:
        self.page = page
        self.site = site
        self.errors: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def log_in(self, settings: Settings) -> None:
        self.page.goto(f"{self.site}/login")
        self.page.locator("#password").fill(secret(settings, "ADMIN_PASSWORD"))
        self.page.locator("form.form button").click()
        self.page.wait_for_url(f"{self.site}/")

    def visit(self, path: str) -> Page:
        self.page.goto(f"{self.site}{path}")
        return self.page

    def sticks_out(self) -> float:
        """How many pixels the page is wider than its window: people would have to scroll sideways."""
        return float(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@contextmanager
def window(
    browser: Browser, site: str, settings: Settings, size: tuple[int, int] = DESKTOP, language: str = "en",
    dark: bool = False, zone: str = "Asia/Shanghai",
) -> Iterator[Window]:  # fmt: skip
    """A window of this size whose owner reads this language, logged in."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, locale={"en": "en-GB", "zh": "zh-CN"}[language],
        color_scheme="dark" if dark else "light", timezone_id=zone,
    )  # fmt: skip
    try:
        opened = Window(context.new_page(), site)
        opened.log_in(settings)
        yield opened
    finally:
        context.close()
