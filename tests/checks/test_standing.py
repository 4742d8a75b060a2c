"""Up, down, and who is told: N failures in a row, one success."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.models.states import TargetState
from app.schedules.checks.standing import Standing, is_told

UP, DOWN, UNKNOWN = TargetState.UP, TargetState.DOWN, TargetState.UNKNOWN


def walk(results: str, confirmations: int = 2) -> list[Standing]:
    """The standings after each of `results`: + and -, a minute apart."""
    found = [Standing()]
    for number, sign in enumerate(results):
        found.append(found[-1].after(ok=sign == "+", at=number * 60_000, confirmations=confirmations))
    return found


def told(standings: list[Standing]) -> list[TargetState]:
    return [b.state for a, b in pairwise(standings) if is_told(a, b)]


def test_a_new_target_that_is_up_is_no_news() -> None:
    standings = walk("+++")
    assert [one.state for one in standings] == [UNKNOWN, UP, UP, UP]
    assert told(standings) == []
    assert standings[-1] == Standing(UP, 0, None, 0)


def test_down_takes_failures_in_a_row_and_counts_from_the_first() -> None:
    standings = walk("+-+--")
    assert [one.state for one in standings[1:]] == [UP, UP, UP, UP, DOWN]
    assert told(standings) == [DOWN]
    assert standings[-1] == Standing(DOWN, 2, 180_000, 180_000)


def test_one_success_is_up_again_and_told_once() -> None:
    standings = walk("+--" + "-" * 5 + "+++")
    assert told(standings) == [DOWN, UP]
    assert standings[-1] == Standing(UP, 0, None, 8 * 60_000)


def test_a_new_target_that_is_down_is_told() -> None:
    assert told(walk("---+")) == [DOWN, UP]


def test_one_confirmation_is_the_first_failure() -> None:
    assert told(walk("+-+-", 1)) == [DOWN, UP, DOWN]


@given(st.text("+-", max_size=60), st.integers(1, 5))
def test_whatever_comes_down_and_up_take_turns(results: str, confirmations: int) -> None:
    standings = walk(results, confirmations)
    news = told(standings)
    assert news == [DOWN if number % 2 == 0 else UP for number in range(len(news))]
    assert (news.count(DOWN) > 0) is ("-" * confirmations in results)
    if results:
        run = len(results) - len(results.rstrip("-"))
        assert standings[-1].failures == run
        assert (standings[-1].state is DOWN) is (run >= confirmations)
