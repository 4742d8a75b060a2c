"""When a recipient is tried again: later each time, never earlier, and the first time at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.campaigns.batches import Mail
from app.campaigns.retry import BACKOFF, due_at, split_due

INSTANT = 1_790_000_000_000


def mail(attempts: int = 0, tried_at: int | None = None, id_: int = 1) -> Mail:
    return Mail(id_, "a@x.test", "A", {}, "active", attempts, tried_at)


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(1, 60), (2, 300), (3, 1800), (4, 3600), (7, 43_200), (8, 86_400), (9, 86_400), (100, 86_400)],
)
def test_each_try_waits_longer_than_the_one_before(attempts: int, seconds: int) -> None:
    assert due_at(attempts, INSTANT) == INSTANT + seconds * 1000


def test_whoever_was_never_tried_may_be_tried_at_once() -> None:
    assert due_at(0, None) == 0
    assert due_at(0, INSTANT) == 0
    # Its worker died while composing it: an attempt of ours, none of the server's.
    assert due_at(3, None) == 0


def test_the_waiting_times_never_shrink() -> None:
    assert list(BACKOFF) == sorted(BACKOFF)


@given(st.lists(st.tuples(st.integers(0, 12), st.none() | st.integers(0, 2 * INSTANT))), st.integers(0, 3 * INSTANT))
def test_everyone_is_either_due_or_waiting(tries: list[tuple[int, int | None]], now: int) -> None:
    mails = [mail(attempts, tried_at, id_) for id_, (attempts, tried_at) in enumerate(tries)]
    due, waiting = split_due(mails, now)
    assert sorted(m.subscriber_id for m in due + waiting) == list(range(len(mails)))
    assert all(due_at(m.attempts, m.tried_at) <= now for m in due)
    assert all(due_at(m.attempts, m.tried_at) > now for m in waiting)
