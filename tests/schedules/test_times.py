"""When somebody is due: a rhythm is kept whatever the clock, the intervals and the people do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.schedules.times import (
    LONGEST,
    MINUTE,
    Due,
    after_claim,
    at_once,
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


def test_a_new_user_is_due_at_once_and_then_in_his_interval() -> None:
    due = at_once(NOW, FIVE)
    assert due.next_run_at == NOW
    claimed = after_claim(due, FIVE, NOW + 20_000)
    assert claimed.skipped == 0
    assert claimed.due == Due(NOW + FIVE, NOW)


def test_missed_periods_are_counted_and_skipped_and_the_rhythm_stays() -> None:
    claimed = after_claim(Due(NOW, NOW - FIVE), FIVE, NOW + 3 * FIVE + 1)
    assert (claimed.skipped, claimed.due.next_run_at) == (3, NOW + 4 * FIVE)


def test_run_now_moves_no_later_run() -> None:
    due = due_now(Due(NOW + FIVE, NOW), FIVE, NOW + MINUTE)
    assert due.next_run_at == NOW + MINUTE
    claimed = after_claim(due, FIVE, NOW + MINUTE + 100)
    assert (claimed.skipped, claimed.due.next_run_at) == (0, NOW + FIVE)


def test_another_interval_counts_from_the_last_run() -> None:
    hourly = Due(NOW + 60 * MINUTE, NOW)
    assert with_interval(hourly, FIVE, NOW + 2 * MINUTE, NOW).next_run_at == NOW + FIVE
    # Overdue by the new interval: at once, and nothing counts as missed.
    overdue = with_interval(hourly, FIVE, NOW + 31 * MINUTE, NOW)
    assert overdue.next_run_at == NOW + 30 * MINUTE
    assert after_claim(overdue, FIVE, NOW + 31 * MINUTE).skipped == 0
    longer = with_interval(Due(NOW + FIVE, NOW), 60 * MINUTE, NOW + MINUTE, NOW)
    assert longer.next_run_at == NOW + 60 * MINUTE


def test_switched_on_again_somebody_runs_once_and_missed_nothing() -> None:
    due = switched_on(Due(NOW + FIVE, NOW), FIVE, NOW + 100 * FIVE + 7, period=NOW)
    assert due.next_run_at == NOW + 100 * FIVE
    assert after_claim(due, FIVE, NOW + 100 * FIVE + 8).skipped == 0


def test_off_and_on_within_a_period_makes_no_second_run() -> None:
    assert switched_on(Due(NOW + FIVE, NOW), FIVE, NOW + MINUTE, period=NOW).next_run_at == NOW + FIVE


@given(instants, minutes, later)
def test_a_claim_leaves_nothing_due_and_loses_no_period(at: int, interval: int, passed: int) -> None:
    now = at + passed
    claimed = after_claim(Due(at, at - interval), interval, now)
    assert now < claimed.due.next_run_at <= now + interval
    assert (claimed.due.next_run_at - at) == (claimed.skipped + 1) * interval
    assert claimed.due.phase_at <= now


@given(instants, minutes, later, st.booleans())
def test_a_clock_that_went_back_is_repaired_in_the_same_rhythm(at: int, interval: int, back: int, ran: bool) -> None:
    now = at - back - 1
    period = at - interval if ran else None
    due = repaired(at + interval, interval, now, period)
    assert now < due.next_run_at <= now + 2 * interval
    assert due.next_run_at != period
    assert (due.next_run_at - at) % interval == 0
    assert due.phase_at <= now
    # And the claim that follows counts no period that was not there.
    assert after_claim(due, interval, due.next_run_at).skipped == 0


@given(instants, minutes, minutes, st.integers(-10 * LONGEST * MINUTE, 10 * LONGEST * MINUTE), st.booleans())
def test_whatever_a_person_changes_the_next_run_is_never_far_away(
    at: int, before: int, after: int, moved: int, ran: bool
) -> None:
    now, due, period = at + moved, Due(at + before, at), at if ran else None
    for found in (
        with_interval(due, after, now, period),
        switched_on(due, after, now, period),
        due_now(due, before, now),
    ):
        assert found.phase_at <= now
        assert found.next_run_at <= now + 2 * max(before, after)
