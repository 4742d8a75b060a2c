"""When a recipient is tried again: later each time, never earlier, and the first time at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.campaigns.mails import Mail
from app.campaigns.retry import backoff, due_at, split_due
from app.config import read_settings
from app.errors import SettingError

INSTANT = 1_790_000_000_000
WAITS = backoff(read_settings({}).retry_minutes)


def mail(attempts: int = 0, tried_at: int | None = None, id_: int = 1) -> Mail:
    return Mail(id_, "a@x.test", "A", {}, "", attempts, tried_at)


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(1, 60), (2, 300), (3, 1800), (4, 3600), (7, 43_200), (8, 86_400), (9, 86_400), (100, 86_400)],
)
def test_each_try_waits_longer_than_the_one_before(attempts: int, seconds: int) -> None:
    assert due_at(attempts, INSTANT, WAITS) == INSTANT + seconds * 1000


def test_whoever_was_never_tried_may_be_tried_at_once() -> None:
    assert due_at(0, None, WAITS) == 0
    assert due_at(0, INSTANT, WAITS) == 0
    # Its worker died while composing it: an attempt of ours, none of the server's.
    assert due_at(3, None, WAITS) == 0


def test_a_person_may_set_the_waiting_times() -> None:
    waits = backoff(read_settings({"RETRY_MINUTES": "2, 10"}).retry_minutes)
    assert [due_at(attempts, INSTANT, waits) - INSTANT for attempts in (1, 2, 3)] == [120_000, 600_000, 600_000]


@pytest.mark.parametrize("said", ["0", "-1", "1,,2", "5,1", "soon", "1.5", "99999", "1;2", "²"])
def test_waiting_times_that_make_no_sense_are_refused(said: str) -> None:
    with pytest.raises(SettingError, match="RETRY_MINUTES") as caught:
        read_settings({"RETRY_MINUTES": said})
    assert said in str(caught.value)
    assert "1,5,30,60" in str(caught.value)


def test_the_waiting_times_never_shrink() -> None:
    assert list(WAITS) == sorted(WAITS)


@given(st.lists(st.tuples(st.integers(0, 12), st.none() | st.integers(0, 2 * INSTANT))), st.integers(0, 3 * INSTANT))
def test_everyone_is_either_due_or_waiting(tries: list[tuple[int, int | None]], now: int) -> None:
    mails = [mail(attempts, tried_at, id_) for id_, (attempts, tried_at) in enumerate(tries)]
    due, waiting = split_due(mails, now, WAITS)
    assert sorted(m.subscriber_id for m in due + waiting) == list(range(len(mails)))
    assert all(due_at(m.attempts, m.tried_at, WAITS) <= now for m in due)
    assert all(due_at(m.attempts, m.tried_at, WAITS) > now for m in waiting)
