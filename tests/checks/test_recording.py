"""Results in the database: recorded together or not at all, a change told once whoever races."""

from __future__ import annotations

import pytest

from app.db import Db
from app.mail.exchange import Timing
from app.schedules.checks import recording
from app.schedules.checks.history import Outage, outages, uptime
from app.schedules.checks.outcome import Outcome
from app.schedules.checks.recording import DAY_MS, Checked, record
from app.schedules.checks.store import find_target, switch_target
from tests.checks.site import http
from tests.checks.targets import MINUTE, add, add_user, in_threads, results, state, told

NOW = 1_790_000_000_000
BAD = Outcome("status 500, expected 200-399", 30, Timing(), 500)
GOOD = Outcome(None, 20, Timing(), 200)


@pytest.fixture
def target(db: Db) -> int:
    return add(db, add_user(db), http("https://shop.example/", name="shop", webhook="https://hook.example/x"))


def note(db: Db, target: int, outcome: Outcome, at: int) -> None:
    record(db, [Checked(find_target(db, target), outcome, at)])


def test_two_runs_at_once_tell_a_change_once(db: Db, target: int) -> None:
    """Both have read the target before either records: the last failure before down."""
    note(db, target, GOOD, NOW)
    note(db, target, BAD, NOW + MINUTE)
    seen = find_target(db, target)
    assert in_threads(lambda: record(db, [Checked(seen, BAD, NOW + 2 * MINUTE)]), 6, db) == []
    assert told(db) == [("mail", "DOWN: shop"), ("webhook", "DOWN: shop")]
    assert results(db, target) == [(NOW, 1), (NOW + MINUTE, 0), (NOW + 2 * MINUTE, 0)]
    seen = find_target(db, target)
    assert in_threads(lambda: record(db, [Checked(seen, GOOD, NOW + 3 * MINUTE)]), 6, db) == []
    assert told(db)[2:] == [("mail", "UP: shop"), ("webhook", "UP: shop")]


def test_who_comes_second_with_a_newer_result_goes_on_from_what_the_first_wrote(db: Db, target: int) -> None:
    note(db, target, GOOD, NOW)
    seen = find_target(db, target)
    record(db, [Checked(seen, BAD, NOW + 1)])
    record(db, [Checked(seen, BAD, NOW + 2)])
    assert find_target(db, target).standing.failures == 2
    assert state(db, target) == "down"
    assert len(told(db)) == 2


def test_who_comes_second_with_an_older_result_is_too_late(db: Db, target: int) -> None:
    seen = find_target(db, target)
    record(db, [Checked(seen, GOOD, NOW + 5)])
    record(db, [Checked(seen, BAD, NOW + 4)])
    assert results(db, target) == [(NOW + 5, 1)]
    assert find_target(db, target).standing.failures == 0


def test_a_change_and_its_notices_are_written_together_or_not_at_all(
    db: Db, target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(db, target, BAD, NOW)
    before = find_target(db, target)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the power fails")

    monkeypatch.setattr(recording, "tell", fail)
    with pytest.raises(RuntimeError):
        note(db, target, BAD, NOW + MINUTE)
    assert find_target(db, target) == before
    assert results(db, target) == [(NOW, 0)]
    monkeypatch.undo()
    note(db, target, BAD, NOW + MINUTE)
    assert state(db, target) == "down"
    assert len(told(db)) == 2


def test_a_clock_that_is_set_back_stops_nothing(db: Db, target: int) -> None:
    note(db, target, GOOD, NOW)
    note(db, target, BAD, NOW - DAY_MS)
    note(db, target, BAD, NOW)
    assert state(db, target) == "down"
    note(db, target, GOOD, NOW - DAY_MS)
    note(db, target, BAD, NOW - DAY_MS)
    note(db, target, BAD, NOW)
    assert state(db, target) == "down"
    assert [subject for _, subject in told(db)] == ["DOWN: shop"] * 2 + ["UP: shop"] * 2 + ["DOWN: shop"] * 2


def test_an_outage_lasts_from_the_first_failure_to_the_first_success(db: Db, target: int) -> None:
    for number, outcome in enumerate((GOOD, BAD, BAD, BAD, GOOD, GOOD)):
        note(db, target, outcome, NOW + number * MINUTE)
    assert outages(db, target) == [Outage(NOW + MINUTE, NOW + 4 * MINUTE, BAD.error or "")]


def test_switched_off_a_target_is_neither_up_nor_down_and_its_outage_ends(db: Db, target: int) -> None:
    note(db, target, BAD, NOW)
    note(db, target, BAD, NOW + 1)
    assert switch_target(db, target, False, NOW + 5)
    assert not switch_target(db, target, False, NOW + 6)
    assert state(db, target) == "unknown"
    assert outages(db, target)[0].ended_at == NOW + 5
    seen = find_target(db, target)
    record(db, [Checked(seen, BAD, NOW + 7)])
    assert len(results(db, target)) == 2
    assert switch_target(db, target, True, NOW + 8)
    note(db, target, GOOD, NOW + 9)
    assert (state(db, target), len(told(db))) == ("up", 2)


def test_the_day_of_a_result_counts_it(db: Db, target: int) -> None:
    for outcome, at in ((GOOD, NOW), (BAD, NOW + 1), (Outcome(None, 40, Timing()), NOW + 2), (BAD, NOW + DAY_MS)):
        note(db, target, outcome, at)
    (today, tomorrow) = uptime(db, target, 2, now=NOW + DAY_MS)
    assert (today.checks, today.failures, today.latency_ms, today.slowest_ms) == (3, 1, 30.0, 40)
    assert (tomorrow.checks, tomorrow.failures, tomorrow.latency_ms, tomorrow.uptime) == (1, 1, None, 0.0)


def test_a_user_who_is_gone_leaves_the_webhook(db: Db, target: int) -> None:
    db.run("DELETE FROM users")
    note(db, target, BAD, NOW)
    note(db, target, BAD, NOW + 1)
    assert told(db) == [("webhook", "DOWN: shop")]
