"""A user's checks from end to end, on both databases: what is recorded, who is told, what a stop leaves."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from app.addresses import EVERYTHING
from app.config import Settings
from app.db import Db
from app.mail.notices import Delivered, deliver_due
from app.mail.servers import add_server
from app.schedules.checks import run as run_module
from app.schedules.checks.check import check
from app.schedules.checks.run import Report
from app.schedules.checks.store import find_target, remove_target, switch_target, targets_to_check
from tests.checks.site import Port, Site, Visit, Watch, http, tcp
from tests.checks.targets import MINUTE, add, add_http, add_user, results, run, run_beside, state, told
from tests.ports import free_port
from tests.smtp_server import SmtpServer
from tests.webhooks import receiver
from tests.working import eventually


def test_a_user_without_targets_is_well(db: Db, settings: Settings) -> None:
    assert run(db, settings, add_user(db)) == Report("ok", None, 0)


def test_a_target_fails_and_recovers_and_each_is_told_once(db: Db, settings: Settings) -> None:
    """A real server stops and comes back; a real mail and a real POST for each, after many more checks too."""
    user = add_user(db, "ann@example.test")
    began = db.now_ms() - 60 * MINUTE
    with Site() as site, SmtpServer() as mails, receiver() as hook:
        add_server(name="sink", host="127.0.0.1", port=mails.port, tls="none", now=began)
        target = add_http(db, user, site.url("/"), name="shop", webhook=hook.url)
        states = []
        for minute in range(12):
            if minute == 3:
                site.down()
            if minute == 8:
                site.up()
            report = run(db, settings, user, began + minute * MINUTE)
            assert report.status == ("failed" if 3 <= minute < 8 else "ok")
            states.append(state(db, target))
        assert states == ["up"] * 4 + ["down"] * 4 + ["up"] * 4
        assert told(db) == [(kind, f"{what}: shop") for what in ("DOWN", "UP") for kind in ("mail", "webhook")]
        allowing = replace(settings, allow_private_addresses=EVERYTHING)
        assert deliver_due(db, allowing) == Delivered(sent=4)
        assert mails.counts() == {"ann@example.test": 2}
        down, up = (mail.content.decode() for mail in mails.mails)
    assert [posted["subject"] for posted in hook.posted] == ["DOWN: shop", "UP: shop"]
    assert "refuses connections" in down
    assert "2 times in a row" in down
    assert f"GET {site.url('/')}" in down
    assert "was down: 5 min 0 s" in up
    assert "status 200" in up
    with Site() as site:
        assert len(results(db, target)) == 12


def test_the_report_says_which_targets_failed_and_why(db: Db, settings: Settings) -> None:
    user = add_user(db)
    closed = free_port()
    with Site() as site, Port(b"220 hello\r\n") as port:
        add_http(db, user, site.url("/"), name="good")
        add_http(db, user, site.url("/gone"), name="bad page")
        add(db, user, tcp(closed, name="bad port"))
        add(db, user, tcp(port.port, name="banner", keyword="220 "))
        report = run(db, settings, user)
    assert (report.status, report.checks) == ("failed", 4)
    assert report.error
    assert "2 of 4 targets failed" in report.error
    assert "bad page: status 404 Not Found, expected 200-399" in report.error
    assert f"bad port: 127.0.0.1:{closed} refuses connections" in report.error


def test_what_is_recorded_can_be_looked_at(db: Db, settings: Settings) -> None:
    user = add_user(db)
    with Site() as site:
        target = add_http(db, user, site.url("/"))
        assert find_target(db, target).last is None
        now = db.now_ms()
        run(db, settings, user, now)
    last = find_target(db, target).last
    assert last
    assert (last.ok, last.error, last.status_code) == (True, None, 200)
    assert now <= last.at < now + 60_000
    assert last.latency_ms >= (last.first_byte_ms or 0)


def test_targets_are_checked_beside_each_other_up_to_the_limit(db: Db, settings: Settings) -> None:
    user = add_user(db)
    lock, inside, most, enough = threading.Lock(), [0], [0], threading.Event()

    def page(visit: Visit) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            if inside[0] == 3:
                enough.set()
        # Nobody is let out until three are in: with fewer at once all would wait in vain.
        good = enough.wait(20)
        with lock:
            inside[0] -= 1
        # Out before the answer: whoever has got that may come in again at once.
        visit.say(200 if good else 500)

    with Site({f"/{number}": page for number in range(9)}) as site:
        for number in range(9):
            add_http(db, user, site.url(f"/{number}"), timeout_seconds=30)
        assert run(db, settings, user, at_once=3) == Report("ok", None, 9)
    assert most[0] == 3


def test_a_slow_target_does_not_keep_the_results_of_the_others(db: Db, settings: Settings) -> None:
    user, stop = add_user(db), threading.Event()
    with Site() as site, Port(hang_up=False) as silent:
        good = add_http(db, user, site.url("/"))
        slow = add_http(db, user, f"http://127.0.0.1:{silent.port}/", timeout_seconds=60)
        thread = run_beside(db, settings, user, stop=stop)
        eventually(lambda: state(db, good) == "up", "the good one is recorded while the other is waited for")
        assert thread.is_alive()
        stop.set()
        thread.join(20)
    assert results(db, slow) == []


def test_a_stop_ends_a_run_and_what_was_not_finished_is_no_failure(db: Db, settings: Settings) -> None:
    user, stop = add_user(db), threading.Event()
    with Port(hang_up=False) as silent:
        targets = [
            add_http(db, user, f"http://127.0.0.1:{silent.port}/{number}", timeout_seconds=60) for number in range(15)
        ]
        threading.Timer(0.5, stop.set).start()
        with Watch() as watch:
            report = run(db, settings, user, stop=stop)
    assert watch.seconds < 30
    assert report == Report("error", "15 of 15 targets were not checked: told to stop", 0)
    for target in targets:
        assert results(db, target) == []
        assert (state(db, target), find_target(db, target).standing.failures) == ("unknown", 0)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("check")] == []


def test_nothing_is_recorded_once_told_to_stop(db: Db, settings: Settings) -> None:
    """The results are there, and may be somebody else's already."""
    user, stop = add_user(db), threading.Event()

    def page(visit: Visit) -> None:
        stop.set()
        visit.say(200)

    with Site({"/": page}) as site:
        target = add_http(db, user, site.url("/"))
        assert run(db, settings, user, stop=stop).checks == 0
    assert results(db, target) == []


def test_a_run_ends_in_time_and_the_rest_has_the_first_turn_next_time(db: Db, settings: Settings) -> None:
    user = add_user(db)
    with Site() as site, Port(hang_up=False) as silent:
        slow = add_http(db, user, f"http://127.0.0.1:{silent.port}/", name="a slow one", timeout_seconds=60)
        late = add_http(db, user, site.url("/"), name="behind it")
        report = run(db, settings, user, at_once=1, seconds=1)
    assert report == Report("error", "2 of 2 targets were not checked: 1 s were over", 0)
    # As if it had been recorded: it has had its turn.
    db.run("UPDATE targets SET last_at = 5 WHERE id = ?", slow)
    assert [one.id for one in targets_to_check(db, user)] == [late, slow]


def test_a_mistake_of_ours_is_an_error_and_no_failure_of_the_target(
    db: Db, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = add_user(db)

    def broken(wanted: object, *more: object) -> object:
        if getattr(wanted, "name", "") == "odd":
            raise KeyError("our mistake")
        return check(wanted, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(run_module, "check", broken)
    with Site() as site:
        odd, good = add_http(db, user, site.url("/"), name="odd"), add_http(db, user, site.url("/"), name="good")
        report = run(db, settings, user)
    assert report == Report("error", "odd: KeyError: 'our mistake'", 1)
    assert (state(db, odd), state(db, good)) == ("unknown", "up")


def test_a_target_that_is_switched_off_is_left_alone(db: Db, settings: Settings) -> None:
    user = add_user(db)
    with Site() as site:
        target = add_http(db, user, site.url("/"))
        switch_target(db, target, False, db.now_ms())
        assert run(db, settings, user) == Report("ok", None, 0)
        assert site.visits == []


def test_what_is_removed_or_switched_off_meanwhile_is_not_recorded(db: Db, settings: Settings) -> None:
    user = add_user(db)
    go, here = threading.Event(), threading.Event()

    def page(visit: Visit) -> None:
        here.set()
        go.wait(20)
        visit.say(500)

    with Site({"/": page}) as site:
        removed = add_http(db, user, site.url("/"), name="1", confirmations=1, timeout_seconds=60)
        off = add_http(db, user, site.url("/"), name="2", confirmations=1, timeout_seconds=60)
        thread = run_beside(db, settings, user)
        assert here.wait(20)
        remove_target(db, removed, db.now_ms())
        switch_target(db, off, False, db.now_ms())
        go.set()
        thread.join(30)
    assert results(db, removed) == results(db, off) == []
    assert state(db, off) == "unknown"
    assert told(db) == []


def test_an_address_inside_is_a_failure_that_is_told(db: Db, settings: Settings) -> None:
    """Checked as in production, where nothing is allowed and the second look has its pause."""
    user = add_user(db)
    with Site() as site:
        add_http(db, user, site.url("/"), name="inside", confirmations=1)
        report = run_module.run_checks(db, settings, user, now=db.now_ms(), stop=threading.Event())
        assert site.visits == []
    assert report.status == "failed"
    assert "127.0.0.1 is a loopback address" in (report.error or "")
    assert told(db) == [("mail", "DOWN: inside")]


def test_a_keyword_of_a_page_is_looked_for(db: Db, settings: Settings) -> None:
    user = add_user(db)
    with Site() as site:
        add(db, user, http(site.url("/"), keyword="is well"))
        assert run(db, settings, user).status == "ok"
        site.pages["/"] = lambda visit: visit.say(200, b"maintenance")
        assert run(db, settings, user).status == "failed"
