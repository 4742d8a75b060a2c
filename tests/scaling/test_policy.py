"""What the autoscaling policy decides in each situation, and why it says so."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from app.scaling.policy import Ceiling, Decision, Demand, Limits, Past, plan

SEND = Limits(floor=2, max=30, tasks_per_worker=2000)


def waiting(backlog: int, **more: object) -> Demand:
    return replace(Demand(backlog=backlog, in_flight=0, oldest_seconds=None, rate=None), **more)  # type: ignore[arg-type]


def looks(demand: Demand, limits: Limits, past: Past, count: int, start: float = 0.0) -> list[Decision]:
    """The decisions of so many looks, ten seconds apart, at a demand that stays."""
    decisions: list[Decision] = []
    for number in range(count):
        decisions.append(plan(demand, limits, past, start + 10.0 * number))
        past = decisions[-1].past
    return decisions


# -- up ------------------------------------------------------------------------------------------


def test_a_burst_goes_to_the_maximum_at_once_and_says_why() -> None:
    decision = plan(waiting(166_312), SEND, Past(workers=2), 0.0)
    assert (decision.target, decision.bound_by) == (30, "max")
    assert decision.reason == "backlog 166312, 84 wanted at 2000 a worker, max 30 binds"
    assert decision.past.workers == 30


@pytest.mark.parametrize(
    ("backlog", "workers", "target"),
    [(2000, 1, 2), (4000, 2, 2), (4001, 2, 4), (18_000, 4, 9), (58_001, 29, 30), (0, 0, 2)],
)
def test_up_goes_to_what_is_wanted_by_two_at_least(backlog: int, workers: int, target: int) -> None:
    assert plan(waiting(backlog), SEND, Past(workers), 0.0).target == target


def test_there_are_never_more_workers_than_tasks() -> None:
    limits = Limits(floor=0, max=20, tasks_per_worker=1)
    assert plan(waiting(1), limits, Past(0), 0.0).target == 1
    assert plan(waiting(2, in_flight=1, busy=1), limits, Past(1), 0.0).target == 3


def test_a_slow_worker_speed_wants_more_than_the_number_of_tasks_does() -> None:
    slow = waiting(1500, in_flight=10, busy=10, rate=1.0, oldest_seconds=60.0)
    decisions = looks(slow, Limits(2, 30, 150), Past(workers=10), 6)
    assert [one.target for one in decisions[:5]] == [10] * 5, "the speed is not trusted at once"
    assert decisions[5].target == 25
    assert "25 wanted to drain it in 10 min at 0.10/s a worker" in decisions[5].reason


def test_a_backlog_that_does_not_shrink_goes_on_up_by_two() -> None:
    fed = waiting(12_000, in_flight=10, busy=10, rate=50.0, oldest_seconds=240.0)
    assert [one.target for one in looks(fed, SEND, Past(workers=10), 6)] == [10, 10, 10, 10, 10, 12]


def test_a_backlog_beside_idle_workers_does_not_ask_for_more() -> None:
    held_up = waiting(12_000, in_flight=3, busy=3, rate=1.5, oldest_seconds=3000.0)
    decisions = looks(held_up, SEND, Past(workers=10), 20)
    assert {one.target for one in decisions} == {10}
    assert decisions[-1].reason.endswith("40 wanted to drain it in 10 min at 0.50/s a worker, but of 10 some are idle")


def test_tasks_that_never_end_are_an_old_backlog_and_ask_for_more() -> None:
    stuck = waiting(50, in_flight=2, busy=2, oldest_seconds=900.0, rate=0.0)
    decisions = looks(stuck, SEND, Past(workers=2), 6)
    assert [one.target for one in decisions] == [2, 2, 2, 2, 2, 4]
    assert "the oldest waits for 15 min and nothing ends" in decisions[-1].reason


def test_a_speed_that_is_not_known_yet_asks_for_nobody() -> None:
    old = waiting(50, in_flight=2, busy=2, oldest_seconds=900.0)
    assert {one.target for one in looks(old, SEND, Past(workers=2), 20)} == {2}


# -- down ----------------------------------------------------------------------------------------


def test_down_by_one_only_after_a_window_that_wanted_fewer() -> None:
    past = plan(waiting(18_000), SEND, Past(workers=2), 0.0).past
    decisions = looks(waiting(4000), SEND, past, 19, start=10.0)
    assert [one.target for one in decisions] == [9] * 6 + [8] * 6 + [7] * 6 + [6]
    assert decisions[2].reason == "backlog 4000, 2 wanted at 2000 a worker, 9 or more 30 s ago"
    assert decisions[6].reason == "backlog 4000, 2 wanted at 2000 a worker, one down"


def test_an_empty_queue_goes_down_at_each_look_after_a_window() -> None:
    past = plan(waiting(18_000), SEND, Past(workers=2), 0.0).past
    targets = [one.target for one in looks(waiting(0), SEND, past, 16, start=10.0)]
    assert targets == [9] * 6 + [8, 7, 6, 5, 4, 3, 2, 2, 2, 2]


def test_one_look_that_wants_them_all_starts_the_window_again() -> None:
    past = looks(waiting(4000), SEND, Past(workers=9), 6)[-1].past
    past = plan(waiting(17_000), SEND, past, 60.0).past
    assert {one.target for one in looks(waiting(4000), SEND, past, 6, start=70.0)} == {9}


def test_nobody_goes_who_is_needed_for_what_arrives() -> None:
    steady = waiting(30, in_flight=10, busy=10, rate=50.0, oldest_seconds=1.0)
    decisions = looks(steady, SEND, Past(workers=10), 60)
    assert {one.target for one in decisions} == {10}
    assert "10 needed to drain it in time, 50/s arrive" in decisions[-1].reason


def test_after_a_gap_or_a_clock_set_back_the_window_begins_anew() -> None:
    past = looks(waiting(0), SEND, Past(workers=9), 7)[-1].past
    assert past.workers == 8
    for start in (3600.0, -3600.0):
        targets = [one.target for one in looks(waiting(0), SEND, past, 7, start)]
        assert targets == [8] * 6 + [7]


# -- limits --------------------------------------------------------------------------------------


def with_ceiling(workers: int, hard: bool) -> Limits:
    return replace(SEND, ceilings=(Ceiling("memory", workers, hard), Ceiling("database connections", 25)))


@pytest.mark.parametrize("hard", [True, False])
def test_the_lowest_ceiling_stops_the_way_up_and_is_named(hard: bool) -> None:
    decision = plan(waiting(100_000), with_ceiling(7, hard), Past(workers=2), 0.0)
    assert (decision.target, decision.bound_by) == (7, "memory")
    assert decision.reason == "backlog 100000, 50 wanted at 2000 a worker, memory 7 binds"


def test_a_hard_ceiling_that_drops_takes_workers_away_at_once() -> None:
    decision = plan(waiting(100_000), with_ceiling(7, True), Past(workers=20), 0.0)
    assert (decision.target, decision.bound_by) == (7, "memory")
    assert decision.reason == "backlog 100000, 50 wanted at 2000 a worker, down from 20, memory 7 binds"


def test_a_soft_ceiling_that_drops_takes_them_one_by_one_after_a_window() -> None:
    past = plan(waiting(100_000), with_ceiling(20, False), Past(workers=2), 0.0).past
    decisions = looks(waiting(100_000), with_ceiling(7, False), past, 7, start=10.0)
    assert [one.target for one in decisions] == [20] * 6 + [19]
    assert {one.bound_by for one in decisions} == {"memory"}


def test_a_ceiling_that_wavers_does_not_make_the_workers_waver() -> None:
    past, targets = Past(workers=2), []
    for number in range(30):
        decision = plan(waiting(100_000), with_ceiling(10 + number % 2, True), past, 10.0 * number)
        past = decision.past
        targets.append(decision.target)
    assert targets == [10] * 30


def test_a_ceiling_that_has_risen_is_used_after_a_window() -> None:
    past = plan(waiting(100_000), with_ceiling(5, True), Past(workers=2), 0.0).past
    targets = [one.target for one in looks(waiting(100_000), with_ceiling(20, True), past, 6, start=10.0)]
    assert targets == [5] * 5 + [20]


def test_a_maximum_that_a_person_raises_holds_at_once() -> None:
    past = plan(waiting(100_000), replace(SEND, max=20), Past(workers=2), 0.0).past
    assert plan(waiting(100_000), SEND, past, 10.0).target == 30


def test_no_ceiling_goes_below_the_floor() -> None:
    decision = plan(waiting(100_000), with_ceiling(0, True), Past(workers=9), 0.0)
    assert (decision.target, decision.bound_by) == (2, "floor")
    assert decision.reason.endswith("memory 0 binds, floor 2 stays")


def test_an_idle_queue_keeps_its_floor() -> None:
    decision = plan(waiting(0), SEND, Past(workers=2), 0.0)
    assert (decision.target, decision.bound_by) == (2, "floor")
    assert decision.reason == "backlog 0, none wanted, floor 2 stays"


# -- what is remembered ----------------------------------------------------------------------------


def test_the_past_survives_json() -> None:
    past = looks(waiting(100_000), with_ceiling(7, True), Past(workers=2), 5)[-1].past
    assert Past.from_json(json.loads(json.dumps(past.as_json()))) == past
    assert Past.from_json(json.loads(json.dumps(Past(workers=3).as_json()))) == Past(workers=3)


def test_what_is_remembered_stays_small() -> None:
    past = looks(waiting(100_000), with_ceiling(7, True), Past(workers=2), 500)[-1].past
    assert max(map(len, (past.recommended, past.backlogs, past.ceilings))) <= 8
