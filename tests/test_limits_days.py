"""The limit for a day: the calendar day of the server's time zone, whatever clocks do."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.mail.limits import Limits, Refusal, Request
from app.mail.limits.days import day_starts
from tests.limiting import Clock, Held, Replay

many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HOUR = 3_600_000_000
ZONES = [
    "UTC", "Asia/Shanghai", "Asia/Kathmandu", "Pacific/Kiritimati", "America/Los_Angeles", "Pacific/Pago_Pago",
    "Europe/Berlin", "Australia/Lord_Howe", "Asia/Beirut", "America/Havana", "Pacific/Chatham",
]  # fmt: skip
#: The days around which these zones change their clocks, and one without.
MONTHS = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)).map(lambda at: micro(at.replace(tzinfo=UTC)))
CHANGES = st.sampled_from([(2026, 3, 7), (2026, 3, 28), (2026, 4, 4), (2026, 10, 24), (2026, 10, 31)]).flatmap(
    lambda day: st.integers(0, 72 * 60).map(
        lambda minutes: micro(datetime(*day, tzinfo=UTC) + timedelta(minutes=minutes))
    )
)


@pytest.fixture
def client(redis_server: str) -> redis.Redis:
    return redis.Redis.from_url(redis_server)


def micro(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000


def date(zone: str, at: int) -> str:
    return str(datetime.fromtimestamp(at / 1e6, ZoneInfo(zone)).date())


def held(replay: Replay, wanted: int) -> Held:
    got = replay.reserve(wanted)
    assert isinstance(got, Held)
    return got


def used_today(replay: Replay) -> int:
    request = Request(replay.server_id, "one", replay.limits)
    return replay.limiter.peek([request])[replay.server_id].used["day"]


@many
@given(
    zone=st.sampled_from(ZONES), allowed=st.integers(1, 500), began=MONTHS | CHANGES,
    steps=st.lists(st.tuples(st.integers(0, 9 * HOUR), st.integers(1, 300), st.floats(0, 1)), max_size=40),
)  # fmt: skip
def test_no_calendar_day_has_more_than_its_limit_and_each_can_have_all_of_it(
    client: redis.Redis, zone: str, allowed: int, began: int, steps: list[tuple[int, int, float]]
) -> None:
    replay = Replay(client, Limits(per_day=allowed, timezone=zone), Clock(began))
    used: Counter[str] = Counter()
    for after, wanted, late in steps:
        replay.clock.true += after
        now = replay.clock.true
        got = replay.reserve(wanted)
        if isinstance(got, Refusal):
            assert used[date(zone, now)] == allowed
            assert date(zone, got.free_at * 1000) > date(zone, now)
            assert date(zone, got.free_at * 1000 - 1) == date(zone, now)
            continue
        assert got.block.left == min(wanted, allowed - used[date(zone, now)])
        # The last instant that is still allowed does not count: there the next day begins.
        at = now + int((got.use_by - now - 1) * late)
        used[date(zone, at)] += got.block.left
    assert all(count <= allowed for count in used.values())


@many
@example(zone="UTC", began=micro(datetime(2026, 1, 1, tzinfo=UTC)), steps=[(0, 41), (-13 * HOUR, 1), (26 * HOUR, 60)])
@given(
    zone=st.sampled_from(ZONES), began=MONTHS,
    steps=st.lists(st.tuples(st.integers(-40 * HOUR, 20 * HOUR), st.integers(1, 60)), max_size=30),
)  # fmt: skip
def test_no_date_of_redis_has_more_when_its_clock_is_wrong_or_set_back(
    client: redis.Redis, zone: str, began: int, steps: list[tuple[int, int]]
) -> None:
    replay = Replay(client, Limits(per_day=100, timezone=zone), Clock(began))
    used: Counter[str] = Counter()
    for change, wanted in steps:
        replay.clock.true += abs(change) // 100
        replay.clock.skew += change
        got = replay.reserve(wanted)
        if isinstance(got, Held):
            used[date(zone, replay.clock.redis())] += got.block.left
    assert all(count <= 100 for count in used.values())
    # What a clock was ahead by at most a day counts again when it is that time. Then nothing of it is left.
    replay.clock.true += 52 * HOUR
    got = held(replay, 100)
    assert got.block.left == 100


def test_what_a_wrong_clock_counted_in_the_future_counts_today(client: redis.Redis) -> None:
    replay = Replay(client, Limits(per_day=100), Clock(micro(datetime(2026, 11, 22, 12, tzinfo=UTC))))
    replay.clock.skew = 400 * 24 * HOUR
    ahead = held(replay, 60)
    replay.clock.skew = 0
    got = held(replay, 100)
    assert got.block.left == 40
    # Where they are counted now, nobody knows any more: they stay counted.
    replay.limiter.give_back(ahead.block)
    for zone in ("Asia/Tokyo", "UTC"):
        replay.limits = Limits(per_day=100, timezone=zone)
        assert used_today(replay) == 100
    replay.clock.true += 12 * HOUR
    got = held(replay, 1000)
    assert got.block.left == 100


def test_tokens_given_back_after_midnight_are_yesterdays(client: redis.Redis) -> None:
    replay = Replay(client, Limits(per_day=100), Clock(micro(datetime(2026, 11, 22, 23, 59, 50, tzinfo=UTC))))
    yesterdays = held(replay, 100)
    replay.clock.true += 10_000_000
    assert isinstance(replay.reserve(30), Held)
    replay.limiter.give_back(yesterdays.block)
    assert used_today(replay) == 30


def test_tokens_of_yesterday_are_not_used_today(client: redis.Redis) -> None:
    midnight = micro(datetime(2026, 11, 23, tzinfo=UTC))
    replay = Replay(client, Limits(per_day=100), Clock(midnight - 3_000_000))
    got = held(replay, 10)
    assert got.use_by == midnight
    # As the limiter says it, by this machine's clock since boot: two seconds, not 54.
    assert not got.block.expired
    fresh = replay.limiter.reserve(replay.server_id, "one", Limits(per_day=100, timezone="Asia/Shanghai"), 10)
    assert not isinstance(fresh, Refusal)
    assert 50 < fresh.use_by - got.block.use_by < 54


@pytest.mark.parametrize(
    ("began", "change"),
    [("2026-11-22T20:05", ("UTC", "Asia/Shanghai")), ("2026-11-22T05:05", ("Asia/Shanghai", "America/Los_Angeles"))],
)
def test_another_time_zone_counts_the_mails_of_its_own_today(
    client: redis.Redis, began: str, change: tuple[str, str]
) -> None:
    now = micro(datetime.fromisoformat(began).replace(tzinfo=UTC))
    replay = Replay(client, Limits(per_day=1000, timezone=change[0]), Clock(now - 23 * HOUR))
    at = []
    for _ in range(23):
        at.append(replay.clock.true)
        assert isinstance(replay.reserve(10), Held)
        replay.clock.true += HOUR
    for zone in (*change, *change, *ZONES):
        replay.limits = Limits(per_day=1000, timezone=zone)
        assert used_today(replay) == 10 * sum(date(zone, one) == date(zone, replay.clock.true) for one in at)
    replay.limits = Limits(per_day=30, timezone=change[1])
    midnight = day_starts(change[1], replay.clock.true // 1000)[2]
    assert replay.reserve(10) == Refusal(midnight, "day limit of server one")


@pytest.mark.parametrize(
    ("zone", "noon", "hours"),
    [
        ("Asia/Shanghai", datetime(2026, 11, 22, 4), 24),
        ("Europe/Berlin", datetime(2026, 3, 29, 10), 23),
        ("Europe/Berlin", datetime(2026, 10, 25, 11), 25),
        ("Australia/Lord_Howe", datetime(2026, 4, 5, 1), 24.5),
        # The clocks are put forward at midnight: the day begins at one.
        ("Asia/Beirut", datetime(2026, 3, 29, 9), 23),
        ("America/Havana", datetime(2026, 11, 1, 17), 25),
        ("No/Such_Zone", datetime(2026, 11, 22, 4), 24),
    ],
)
def test_a_day_is_as_long_as_its_zone_says(zone: str, noon: datetime, hours: float) -> None:
    now = micro(noon.replace(tzinfo=UTC)) // 1000
    starts = day_starts(zone, now)
    assert starts[1] <= now < starts[2]
    assert (starts[2] - starts[1]) / 3_600_000 == hours
    assert list(starts) == sorted(set(starts))


def test_a_host_whose_clock_is_wrong_counts_by_the_clock_of_redis(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = Replay(client, Limits(per_day=10))
    now = replay.clock.true
    assert isinstance(replay.reserve(10), Held)
    # What it thinks of the time decides which days it sends along.
    monkeypatch.setattr(replay.limiter, "_own_now", lambda: now + 100 * 24 * HOUR)
    got = replay.reserve(1)
    assert got == Refusal(day_starts("UTC", now // 1000)[2], "day limit of server one")
