"""When somebody is due: a rhythm is kept whatever the clock, the intervals and the people do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.schedules.times import (
    LONGEST,
    MINUTE,
    Claimed,
    Due,
    after_claim,
    due_now,
    repaired,
    switched_on,
    with_interval,
)

NOW = 1_790_000_000_000
FIVE = 5 * MINUTE

minutes = st.integers(1, LONGEST).map(lambda count: count * MINUTE)
instants = st.integers(0, 2 * NOW)
later = st.integers(0, 10 * LONGEST * MINUTE)


def test_a_user_who_is_due_runs_and_then_in_his_interval() -> None:
    claimed = after_claim(Due(NOW), FIVE, NOW + 20_000)
    assert (claimed.skipped, claimed.due) == (0, Due(NOW + FIVE))


def test_missed_periods_are_counted_and_skipped_and_the_rhythm_stays() -> None:
    claimed = after_claim(Due(NOW), FIVE, NOW + 3 * FIVE + 1)
    assert (claimed.skipped, claimed.due) == (3, Due(NOW + 4 * FIVE))


def test_run_now_moves_no_later_run() -> None:
    due = due_now(Due(NOW + FIVE), FIVE, NOW + MINUTE)
    assert due == Due(NOW + MINUTE, NOW + FIVE)
    assert due_now(due, FIVE, NOW + 2 * MINUTE) == due
    assert after_claim(due, FIVE, NOW + MINUTE + 100) == Claimed(0, Due(NOW + FIVE))
    assert after_claim(due, FIVE, NOW + FIVE) == Claimed(1, Due(NOW + 2 * FIVE)), "one run for both"


def test_another_interval_counts_from_the_last_run() -> None:
    hourly = Due(NOW + 60 * MINUTE)
    assert with_interval(hourly, FIVE, NOW + 2 * MINUTE, NOW) == Due(NOW + FIVE)
    # Overdue by the new interval: at once, and nothing counts as missed.
    overdue = with_interval(hourly, FIVE, NOW + 31 * MINUTE, NOW)
    assert overdue == Due(NOW + 30 * MINUTE)
    assert after_claim(overdue, FIVE, NOW + 31 * MINUTE).skipped == 0
    assert with_interval(Due(NOW + FIVE), 60 * MINUTE, NOW + MINUTE, NOW) == Due(NOW + 60 * MINUTE)


def test_a_run_that_was_asked_for_outlives_a_change_of_the_interval() -> None:
    asked = due_now(Due(NOW + 60 * MINUTE), 60 * MINUTE, NOW + MINUTE)
    assert with_interval(asked, FIVE, NOW + 2 * MINUTE, NOW) == Due(NOW + MINUTE, NOW + FIVE)


def test_switched_on_again_somebody_runs_once_and_missed_nothing() -> None:
    due = switched_on(Due(NOW + FIVE), FIVE, NOW + 100 * FIVE + 7, period=NOW)
    assert due == Due(NOW + 100 * FIVE)
    assert after_claim(due, FIVE, NOW + 100 * FIVE + 8).skipped == 0


def test_off_and_on_within_a_period_makes_no_second_run() -> None:
    assert switched_on(Due(NOW + FIVE), FIVE, NOW + MINUTE, period=NOW) == Due(NOW + FIVE)


@given(instants, minutes, later)
def test_a_claim_leaves_nothing_due_and_loses_no_period(at: int, interval: int, passed: int) -> None:
    now = at + passed
    claimed = after_claim(Due(at), interval, now)
    assert now < claimed.due.next_run_at <= now + interval
    assert (claimed.due.next_run_at - at) == (claimed.skipped + 1) * interval


@given(instants, minutes, later, st.booleans())
def test_a_clock_that_went_back_is_repaired_in_the_same_rhythm(at: int, interval: int, back: int, ran: bool) -> None:
    now = at - back - 1
    period = at - interval if ran else None
    due = repaired(Due(at + interval), interval, now, period)
    assert now < due.next_run_at <= now + 2 * interval
    assert due.next_run_at != period
    assert (due.next_run_at - at) % interval == 0
    # And the claim that follows counts no period that was not there.
    assert after_claim(due, interval, due.next_run_at).skipped == 0


@given(instants, minutes, minutes, st.integers(-10 * LONGEST * MINUTE, 10 * LONGEST * MINUTE), st.booleans())
def test_whatever_a_person_changes_the_next_run_is_never_far_away(
    at: int, before: int, after: int, moved: int, ran: bool
) -> None:
    now, due, period = at + moved, Due(at + before), at if ran else None
    assert with_interval(due, after, now, period).next_run_at <= now + after
    assert switched_on(due, before, now, period).next_run_at <= now + before
    asked = due_now(due, before, now)
    assert asked.next_run_at <= now
    assert asked.behind(before) <= max(now, asked.next_run_at) + before
