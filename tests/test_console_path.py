"""From a file of people to a finished campaign by clicking: both languages, on a desk and on a phone, a whole stack."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, expect

from tests.console import DESKTOP, PHONE, browser_program, window
from tests.console_stack import FULL, GONE, ConsoleStack, Receiver, console_stack
from tests.console_walk import LONG, Walk
from tests.working import eventually

ZONE = "Asia/Shanghai"
#: Who gets the mail, whom the server refuses, and the one whose mail it takes without an answer.
WELL, NOBODY, TOO_MUCH = 400, 3, 2
ALL = WELL + NOBODY + TOO_MUCH + 1
AUTHOR = "author@shop.test"
BAD_ROW = "not-an-address,Nobody,Nowhere"
HTML = """<h1 style="color: #0b6a62">Dear {{ name }}</h1>
<p>What is new in {{ city | default('your town') }}.</p>
"""
TEXT = "Dear {{ name }},\nwhat is new in {{ city | default('your town') }}."

#: Counts the pictures of the page that show a time which is not in the viewer's zone.
WATCH_TIMES = """() => { window.otherZone = 0; (function look() {
  if ([...document.querySelectorAll("time")].some((one) => one.textContent.endsWith("UTC"))) window.otherZone++;
  requestAnimationFrame(look); })(); }"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stack(short_directory: Path) -> Iterator[ConsoleStack]:
    browser_program()
    directory = short_directory / f"path-{os.urandom(3).hex()}"
    # The mail that is lost must not be alone in its batch: without another answer its server would be left alone.
    with console_stack(directory, SEND_BATCH_SIZE="6") as stack:
        yield stack


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_from_a_file_to_a_finished_campaign(
    stack: ConsoleStack, browser: Browser, tmp_path: Path, size: tuple[int, int], language: str
) -> None:
    run = f"{language}-{size[0]}"
    with (
        # Of its own: a server that has cut a line is left alone for a while.
        Receiver(pace=0.2) as receiver,
        window(browser, stack.site, stack.settings, size, language, zone=ZONE) as seen,
    ):
        stack.run("mailcrew", "servers", "add", run, "--host", receiver.host, "--port", str(receiver.port))
        walk = Walk(seen, language, size)
        import_people(walk, run, tmp_path)
        write_campaign(walk, run)
        preview(walk, run)
        send_test(walk, receiver, run)
        schedule(walk, stack)
        watch_it_move(walk)
        pause_and_resume(walk, stack, receiver)
        finish(walk)
        look_at_failures(walk, run)
        settle_unknown(walk)
        agree(walk, stack, receiver)
        assert seen.errors == []


def import_people(walk: Walk, run: str, directory: Path) -> None:
    """Make a list, send a file with a row that cannot be read, get that row back with its reason."""
    page = walk.page
    walk.go("lists")
    walk.field("lists.name").fill(f"News {run}")
    walk.click("lists.make")
    walk.told("lists.was_made")
    walk.fits()
    chinese = walk.language == "zh"
    encoding = "gb18030" if chinese else "utf-8"
    sent = directory / "people.csv"
    sent.write_text(people(run, "成都" if chinese else "Łódź"), encoding=encoding)
    walk.upload(sent)
    walk.field("lists.encoding").select_option(encoding)
    walk.click("lists.import_do")
    expect(page.locator(".imports .badge")).to_have_text(walk.say("states.import_done"), timeout=LONG)
    expect(page.locator(".counts")).to_contain_text(walk.say("lists.created", n=ALL))
    expect(page.locator(".figures .value").first).to_have_text(str(ALL))
    walk.fits()
    with page.expect_download() as started:
        page.get_by_role("link", name=walk.say("lists.rejects_get")).click()
    with Path(started.value.path()).open(newline="") as file:
        _, (line, reason, row) = csv.reader(file)
    assert (line, row) == ("3", BAD_ROW)
    assert "must have an @-sign" in reason


def people(run: str, city: str) -> str:
    well = [f"person{number}@{run}.test,Person {number},{city}" for number in range(1, WELL + 1)]
    gone = [f"gone{number}@{run}.test,Gone {number},{city}" for number in range(NOBODY)]
    full = [f"full{number}@{run}.test,Full {number},{city}" for number in range(TOO_MUCH)]
    rows = [well[0], BAD_ROW, *well[1:], *gone, *full, f"lost@{run}.test,Lost,{city}"]
    return "\n".join(["email,name,city", *rows, ""])


def write_campaign(walk: Walk, run: str) -> None:
    page = walk.page
    walk.go("campaigns")
    page.get_by_role("link", name=walk.say("campaign_edit.new"), exact=True).first.click()
    walk.field("campaign_edit.name").fill(f"Spring {run}")
    page.locator("#letter").get_by_label(walk.say("campaign_edit.from"), exact=True).fill("Shop <news@shop.test>")
    page.locator("#letter").get_by_label(walk.say("campaign_edit.subject"), exact=True).fill("Hello {{ name }}")
    page.get_by_label(f"News {run}").check()
    page.locator("#letter").get_by_label(walk.say("campaign_edit.html"), exact=True).fill(HTML)
    page.locator("#letter").get_by_label(walk.say("campaign_edit.text"), exact=True).fill(TEXT)
    page.get_by_text(walk.say("campaign_edit.more"), exact=True).click()
    page.locator("#letter").get_by_label(run, exact=True).check()
    walk.fits()
    walk.click("campaign_edit.save")
    walk.told("campaign_edit.was_saved")
    expect(page.locator("h1")).to_have_text(f"Spring {run}")


def preview(walk: Walk, run: str) -> None:
    """A real subscriber's mail as HTML, as wide as a phone, as text, with its headers."""
    page = walk.page
    page.locator(".preview").get_by_label(walk.say("campaign_edit.as")).fill(f"person7@{run}.test")
    expect(page.locator(".about strong")).to_have_text("Hello Person 7")
    city = "成都" if walk.language == "zh" else "Łódź"
    mail = page.frame_locator(".frame iframe").last
    expect(mail.locator("h1")).to_have_text("Dear Person 7")
    expect(mail.locator("p")).to_have_text(f"What is new in {city}.")
    page.get_by_role("radio", name=walk.say("campaign_edit.view_phone")).check(force=True)
    frame = page.locator(".frame").bounding_box()
    assert frame is not None
    assert frame["width"] <= 375
    expect(mail.locator("h1")).to_be_visible()
    page.get_by_role("radio", name=walk.say("campaign_edit.view_plain")).check(force=True)
    expect(page.locator(".about .plain")).to_have_text(f"Dear Person 7,\nwhat is new in {city}.")
    expect(page.locator(".frame")).to_be_hidden()
    page.get_by_role("radio", name=walk.say("campaign_edit.view_headers")).check(force=True)
    expect(page.locator(".about .headers")).to_contain_text(f"person7@{run}.test")
    walk.fits()


def send_test(walk: Walk, receiver: Receiver, run: str) -> None:
    walk.field("campaign_edit.to").fill(AUTHOR)
    walk.click("campaign_edit.test_do")
    told = walk.say("campaign_edit.was_tried", to=AUTHOR, server=run, reply="")
    expect(walk.page.get_by_role("status")).to_contain_text(told, timeout=LONG)
    assert receiver.counts() == {AUTHOR: 1}


def schedule(walk: Walk, stack: ConsoleStack) -> None:
    """For the present minute, in the zone of who looks; the tick that comes then begins it."""
    page = walk.page
    page.get_by_label(walk.say("campaign.at"), exact=True).fill(f"{datetime.now(ZoneInfo(ZONE)):%Y-%m-%dT%H:%M}")
    walk.click("campaign.schedule_do")
    walk.told("campaign.was_scheduled")
    # The minute's own tick may have come first.
    begun = re.compile(f"^({walk.say('states.campaign_scheduled')}|{walk.say('states.campaign_sending')})$")
    expect(page.locator("#live .badge").first).to_have_text(begun)
    page.evaluate(WATCH_TIMES)
    stack.tick()


def watch_it_move(walk: Walk) -> None:
    expect(walk.page.locator("#live .badge").first).to_have_text(walk.say("states.campaign_sending"), timeout=LONG)
    walk.wait_for_count("sent", 1)
    drawn, before = walk.bar(), walk.count("sent")
    walk.wait_for_count("sent", before + 1)
    assert walk.bar() > drawn
    assert walk.page.evaluate("window.otherZone") == 0, "the same page all along, every time in the zone of who looks"
    walk.fits()


def pause_and_resume(walk: Walk, stack: ConsoleStack, receiver: Receiver) -> None:
    """When the pause is told, no server accepts another mail; then the rest goes, and nobody twice."""
    badge = walk.page.locator("#live .badge").first
    walk.click("campaign.pause")
    told = walk.page.get_by_role("status")
    if told.inner_text() != walk.say("campaign.was_paused"):
        # On a busy machine it says how many are still in hand.
        expect(told).to_have_text(walk.say("campaign.pausing", n=1))
        eventually(lambda: stack.json("check-campaign", number_of(walk))["sending"] == 0, "nothing is in hand")
    expect(badge).to_have_text(walk.say("states.campaign_paused"))
    accepted = len(receiver.mails)
    walk.page.reload()
    assert walk.count("sent") + 1 == len(receiver.mails) == accepted < WELL, "with the test mail"
    walk.click("campaign.resume")
    walk.told("campaign.was_resumed")
    expect(walk.page.get_by_role("heading", name=walk.say("campaign.boost"))).to_be_visible()
    receiver.calm.set()


def finish(walk: Walk) -> None:
    expect(walk.page.locator("#live .badge").first).to_have_text(walk.say("states.campaign_sent"), timeout=LONG)
    assert {state: walk.count(state) for state in ("sent", "failed", "unknown", "pending", "sending")} == {
        "sent": WELL, "failed": NOBODY + TOO_MUCH, "unknown": 1, "pending": 0, "sending": 0,
    }  # fmt: skip
    expect(walk.page.get_by_role("heading", name=walk.say("campaign.boost"))).to_be_hidden()
    walk.fits()


def look_at_failures(walk: Walk, run: str) -> None:
    """Grouped by what the server said; and why one person has not got it."""
    page = walk.page
    for said, count in ((GONE, NOBODY), (FULL, TOO_MUCH)):
        row = page.get_by_role("row").filter(has_text=said)
        expect(row.locator(".n")).to_have_text(str(count))
    walk.field("recipients.address").fill(f"gone1@{run}")
    walk.click("frame.search")
    expect(page.locator("h1")).to_have_text(walk.say("recipients.title"))
    row = page.locator("tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text(f"gone1@{run}.test")
    expect(row).to_contain_text(GONE)
    walk.fits()
    page.get_by_role("link", name=f"Spring {run}").click()


def settle_unknown(walk: Walk) -> None:
    expect(walk.page.get_by_role("heading", name=walk.say("campaign.unknown_title", n=1))).to_be_visible()
    walk.click("campaign.settle", sure="campaign.sure_settle")
    walk.told("campaign.was_settle", n=1)
    assert (walk.count("sent"), walk.count("unknown")) == (WELL + 1, 0)
    walk.fits()


def number_of(walk: Walk) -> str:
    """The campaign's, on its page."""
    return walk.page.url.rpartition("/")[2]


def agree(walk: Walk, stack: ConsoleStack, receiver: Receiver) -> None:
    """Page, command and mail server tell the same."""
    told = stack.json("check-campaign", number_of(walk))
    assert (told["status"], told["sent"], told["failed"], told["unknown"]) == ("sent", WELL + 1, NOBODY + TOO_MUCH, 0)
    got = receiver.counts()
    assert set(got.values()) == {1}
    assert len(got) == WELL + 1, "with the test mail, and without the one that was lost"
    assert receiver.violations == []
