"""What holds for the autoscaling policy whatever the load: rules on any history, and the bars on replayed traces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.scaling.policy import STEP_UP, Ceiling, Decision, Demand, Limits, Past, plan
from bench.scaling.__main__ import COST_BAR, TIME_BAR, bars
from bench.scaling.replay import Outcome, fixed, ours, replay
from bench.scaling.traces import Trace, all_traces, burst

SECONDS = st.floats(0, 10_000, allow_nan=False)
CEILINGS = st.lists(
    st.builds(Ceiling, st.sampled_from(["memory", "SMTP"]), st.integers(0, 40), st.booleans()), max_size=3
)


@dataclass(frozen=True)
class Step:
    """One look of a made-up history; `lost` workers have disappeared since the look before."""

    after: float
    demand: Demand
    ceilings: tuple[Ceiling, ...]
    lost: int


DEMANDS = st.builds(
    Demand,
    backlog=st.one_of(st.integers(0, 30), st.integers(0, 200_000)),
    in_flight=st.integers(0, 50),
    oldest_seconds=st.none() | SECONDS,
    rate=st.none() | st.floats(0, 5000, allow_nan=False),
    busy=st.integers(0, 40),
)
STEPS = st.builds(
    Step,
    after=st.one_of(st.just(10.0), st.floats(-100, 1000, allow_nan=False)),
    demand=DEMANDS,
    ceilings=CEILINGS.map(tuple),
    lost=st.sampled_from([0, 0, 0, 1, 5]),
)
LIMITS = st.builds(
    Limits,
    floor=st.integers(0, 5),
    max=st.integers(0, 40),
    tasks_per_worker=st.sampled_from([1, 20, 2000]),
    target_seconds=st.sampled_from([30.0, 600.0]),
)
HISTORIES = st.lists(STEPS, min_size=1, max_size=40)


@dataclass(frozen=True)
class Made:
    """A decision with what it was made from."""

    demand: Demand
    limits: Limits
    before: Past
    now: float
    decision: Decision


def decide(limits: Limits, history: Sequence[Step], start: int, through_json: bool = False) -> list[Made]:
    made, past, now = [], Past(start), 1_000_000.0
    for step in history:
        now += step.after
        past = replace(past, workers=max(0, past.workers - step.lost))
        if through_json:
            past = Past.from_json(json.loads(json.dumps(past.as_json())))
        allowed = replace(limits, ceilings=step.ceilings)
        decision = plan(step.demand, allowed, past, now)
        made.append(Made(step.demand, allowed, past, now, decision))
        past = decision.past
    return made


@given(LIMITS, HISTORIES, st.integers(0, 40))
@settings(deadline=None)
def test_the_target_is_between_floor_and_what_is_allowed(limits: Limits, history: list[Step], start: int) -> None:
    for one in decide(limits, history, start):
        hard = [ceiling.workers for ceiling in one.limits.ceilings if ceiling.hard]
        every = [ceiling.workers for ceiling in one.limits.ceilings]
        assert limits.floor <= one.decision.target <= max(limits.floor, min([limits.max, *hard]))
        # A soft ceiling only stops the way up.
        assert one.decision.target <= max(limits.floor, one.before.workers, min([limits.max, *every]))


@given(LIMITS, HISTORIES, st.integers(0, 40))
@settings(deadline=None)
def test_up_is_by_two_unless_something_binds(limits: Limits, history: list[Step], start: int) -> None:
    for one in decide(limits, history, start):
        rise = one.decision.target - one.before.workers
        tasks = one.demand.backlog + one.demand.in_flight
        if 0 < rise < STEP_UP:
            assert one.decision.bound_by or one.decision.target in (limits.floor, tasks)
        assert rise <= 0 or one.decision.target <= max(limits.floor, tasks)


@given(LIMITS, HISTORIES, st.integers(0, 40))
@settings(deadline=None)
def test_down_is_by_one_after_a_whole_window_unless_a_limit_forces_it(
    limits: Limits, history: list[Step], start: int
) -> None:
    made = decide(limits, history, start)
    for number, one in enumerate(made):
        target, workers = one.decision.target, one.before.workers
        hard = min([limits.max, *(ceiling.workers for ceiling in one.limits.ceilings if ceiling.hard)])
        if target >= workers or workers > max(limits.floor, hard):
            continue
        assert target == workers - 1
        wanted = -(-one.demand.backlog // limits.tasks_per_worker)
        assert min([wanted, limits.max, *(ceiling.workers for ceiling in one.limits.ceilings)]) < workers
        seen = one.decision.past.recommended
        assert seen[0][0] <= one.now - limits.window_seconds
        assert max(count for _, count in seen) < workers
        # And what is remembered is what was really decided, by looks that exist.
        assert {at for at, _ in seen} <= {earlier.now for earlier in made[: number + 1]}


@given(LIMITS, HISTORIES, st.integers(0, 40))
@settings(deadline=None)
def test_a_manager_that_restarts_at_every_look_decides_the_same(
    limits: Limits, history: list[Step], start: int
) -> None:
    assert decide(limits, history, start, through_json=True) == decide(limits, history, start)


@given(LIMITS, HISTORIES, st.integers(0, 40))
@settings(deadline=None)
def test_the_reason_has_the_numbers_and_what_binds(limits: Limits, history: list[Step], start: int) -> None:
    for one in decide(limits, history, start):
        assert one.decision.reason.startswith(f"backlog {one.demand.backlog}, ")
        if one.decision.bound_by:
            assert one.decision.bound_by in one.decision.reason


@given(LIMITS, DEMANDS, st.integers(0, 40), CEILINGS.map(tuple))
@settings(max_examples=50, deadline=None)
def test_a_demand_that_stays_ends_in_a_count_that_stays(
    limits: Limits, demand: Demand, start: int, ceilings: tuple[Ceiling, ...]
) -> None:
    targets = [one.decision.target for one in decide(limits, [Step(10.0, demand, ceilings, 0)] * 700, start)]
    turns = [b > a for a, b in pairwise(targets) if a != b]
    assert sum(a != b for a, b in pairwise(turns)) <= 2
    assert len(set(targets[-100:])) == 1


# -- traces --------------------------------------------------------------------------------------


def with_policy(trace: Trace) -> Outcome:
    return replay(trace, ours(trace), "policy", at_start=2)


@pytest.mark.parametrize(("workers", "minutes"), [(4, 138), (10, 55), (20, 28), (30, 18)])
def test_the_simulator_agrees_with_arithmetic(workers: int, minutes: int) -> None:
    outcome = replay(burst(), fixed(workers), "fixed", at_start=workers)
    assert outcome.done == burst().tasks
    assert outcome.drain_minutes == pytest.approx(minutes, abs=0.6)


def test_the_simulator_takes_a_whole_stretch_of_waiting_as_one_drain() -> None:
    steady = next(one for one in all_traces() if one.name == "steady")
    # Ten workers are just too few for it, so something waits from the first minute to the last.
    assert replay(steady, fixed(10), "fixed 10", at_start=10).drain_minutes > 55


def test_the_burst_is_nearly_as_fast_as_thirty_workers_at_half_the_price() -> None:
    policy, thirty = with_policy(burst()), replay(burst(), fixed(30), "fixed 30", at_start=30)
    assert policy.drain_minutes <= TIME_BAR * thirty.drain_minutes
    assert policy.worker_minutes <= COST_BAR * thirty.worker_minutes


@pytest.mark.parametrize("trace", all_traces(), ids=lambda trace: trace.name)
def test_every_trace_is_done_without_flapping(trace: Trace) -> None:
    outcome = with_policy(trace)
    assert outcome.done == trace.tasks
    assert outcome.reversals <= 2 * trace.waves - 1
    assert outcome.looks[-1].decision.target <= max(2, 11 * (trace.name == "steady"))
    assert all(one.met for one in bars(trace, [outcome, replay(trace, fixed(30), "fixed 30", at_start=30)]))


def test_a_policy_without_a_window_would_flap() -> None:
    trace = next(one for one in all_traces() if one.name == "steady")

    def hasty(demand: Demand, past: Past, _now: float) -> Decision:
        target = max(2, min(30, -(-demand.backlog // 200)))
        return Decision(target, "hasty", replace(past, workers=target), None)

    assert replay(trace, hasty, "hasty", at_start=2).reversals > 20
