"""What somebody does who clicks through the console in one language, on one size of screen."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Dialog, Locator, Page, expect

from app.web.console.words import catalogue
from tests.console import PHONE, Window

#: Until a page shows what workers have done, in ms.
LONG = 120_000


class Walk:
    """A window and the words on it. Everything is found as a person finds it: by its name and its label."""

    def __init__(self, seen: Window, language: str, size: tuple[int, int]) -> None:
        self.seen, self.language = seen, language
        self.page: Page = seen.page
        self.on_phone = size == PHONE

    def say(self, key: str, **values: object) -> str:
        """The words under a key, as a page shows them."""
        found = catalogue(self.language)[key]
        if isinstance(found, dict):
            found = found["one" if values.get("n") == 1 else "other"]
        return found.format(**values)

    def go(self, page: str) -> None:
        """To a page of the navigation."""
        if self.on_phone:
            self.page.locator("summary").first.click()
        shown = self.page.locator(".menu" if self.on_phone else "nav.wide")
        shown.get_by_role("link", name=self.say(f"{page}.nav"), exact=True).click()
        expect(self.page.locator("h1")).to_have_text(self.say(f"{page}.nav"))

    def button(self, key: str) -> Locator:
        return self.page.get_by_role("button", name=self.say(key), exact=True)

    def field(self, key: str) -> Locator:
        return self.page.get_by_label(self.say(key))

    def click(self, key: str, sure: str = "") -> None:
        """Press a button; `sure`: the question that comes then, which is answered with yes."""
        if not sure:
            self.button(key).click()
            return
        asked: list[str] = []

        def yes(dialog: Dialog) -> None:
            asked.append(dialog.message)
            dialog.accept()

        self.page.once("dialog", yes)
        self.button(key).click()
        assert asked == [self.say(sure)]

    def told(self, key: str, **values: object) -> None:
        """What has been done stands at the top of the page."""
        expect(self.page.get_by_role("status")).to_have_text(self.say(key, **values))

    def count(self, state: str) -> int:
        """How many recipients the campaign's page shows in this state."""
        text = self.page.locator(f".key .{state}").inner_text()
        return int(text.split()[-1])

    def bar(self, kind: str = "sent") -> float:
        """How much of the campaign's bar this kind takes, of 1000."""
        drawn = self.page.locator(f"svg.bar rect.{kind}")
        return float(drawn.get_attribute("width") or 0) if drawn.count() else 0.0

    def wait_for_count(self, state: str, least: int) -> None:
        """Until the page shows so many, without anybody loading it."""
        self.page.wait_for_function(
            "([state, least]) => Number(document.querySelector(`.key .${state}`).innerText.split(' ').pop()) >= least",
            arg=[state, least], timeout=LONG,
        )  # fmt: skip

    def upload(self, file: Path) -> None:
        """Choose a file of people."""
        self.field("lists.csv").set_input_files(file)

    def fits(self) -> None:
        """Nobody has to scroll sideways."""
        assert self.seen.sticks_out() == 0, self.page.url
