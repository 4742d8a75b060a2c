"""Limits per recipient domain: which rule holds for whom, tokens of a domain, and the turn of batches that wait."""

from __future__ import annotations

import pytest
import redis

from app.db import Db
from app.errors import NotFound, UsageError
from app.mail.limits import Block, DomainRule, DomainRules, Limits, Refusal, load_rules
from app.mail.limits.domain_defaults import DEFAULTS
from app.mail.limits.domains import list_rules, set_rule, unset_rule, use_defaults
from tests.limiting import NOW, Replay, most_in_any

MINUTE, HOUR = 60_000_000, 3_600_000_000
GMAIL = DomainRule("gmail.com", Limits(per_minute=100, per_hour=1000))


@pytest.fixture
def client(redis_server: str) -> redis.Redis:
    return redis.Redis.from_url(redis_server)


@pytest.fixture
def replay(client: redis.Redis) -> Replay:
    return Replay(client, Limits(per_minute=500))


def reserve(replay: Replay, wanted: int, rule: DomainRule = GMAIL) -> Block | Refusal:
    return replay.limiter.reserve_domain(replay.server_id, "one", rule, "UTC", wanted)


def appointment(replay: Replay, mails: int, rule: DomainRule = GMAIL) -> int:
    """In µs of the true time."""
    at = replay.limiter.appointment(replay.server_id, rule, "UTC", mails)
    return at * 1000 - replay.clock.skew


@pytest.mark.parametrize(
    ("email", "rule"),
    [
        ("ann@gmail.com", "gmail.com"),
        ("ann@GMAIL.COM", "gmail.com"),
        ("ann@mail.gmail.com", None),
        ("ann@example.com", None),
        ("ann@a.example.com", "*.example.com"),
        ("ann@a.b.example.com", "*.b.example.com"),
        ("ann@c.a.b.example.com", "*.b.example.com"),
        ("ann@b.example.com", "b.example.com"),
        ("ann@notexample.com", None),
        ('"a@gmail.com"@b.org', None),
        ("nobody", None),
        ("", None),
    ],
)
def test_the_exact_domain_goes_before_the_longest_ending(email: str, rule: str | None) -> None:
    names = ("gmail.com", "*.example.com", "*.b.example.com", "b.example.com")
    found = DomainRules([DomainRule(name, Limits(per_hour=1)) for name in names]).for_address(email)
    assert (found.domain if found else None) == rule
    assert DomainRules().for_address(email) is None


def test_rules_are_added_replaced_and_removed(db: Db) -> None:
    assert list_rules(db) == []
    assert not load_rules(db)
    made = set_rule(db, " Müller.example ", per_minute=10, per_day=500, now=NOW // 1000)
    assert made == DomainRule("xn--mller-kva.example", Limits(per_minute=10, per_day=500), NOW // 1000)
    set_rule(db, "*.QQ.com", per_second=1, now=1)
    # All limits of the one there was; since when it counts stays.
    changed = set_rule(db, "müller.example", per_hour=99, now=NOW // 1000 + 5)
    assert changed == DomainRule("xn--mller-kva.example", Limits(per_hour=99), NOW // 1000)
    assert list_rules(db) == [DomainRule("*.qq.com", Limits(per_second=1), 1), changed]
    assert load_rules(db).for_address("a@b.qq.com") is not None
    unset_rule(db, "*.qq.com", now=NOW)
    assert list_rules(db) == [changed]
    with pytest.raises(NotFound, match=r"there is no rule for \*\.qq\.com"):
        unset_rule(db, "*.qq.com", now=NOW)


@pytest.mark.parametrize(
    ("domain", "limit", "told"),
    [
        ("gmail", {"per_hour": 1}, "DOMAIN='gmail' is not allowed"),
        ("a@gmail.com", {"per_hour": 1}, "DOMAIN='a@gmail.com' is not allowed"),
        ("*gmail.com", {"per_hour": 1}, "is not allowed"),
        ("*.*.gmail.com", {"per_hour": 1}, "is not allowed"),
        ("", {"per_hour": 1}, "DOMAIN='' is not allowed"),
        ("gmail.com\n", {"per_hour": 1}, None),
        ("gmail.com", {}, "needs a limit: --per-second"),
        ("gmail.com", {"per_hour": 0}, "--per-hour=0 is not allowed: 1 to 1000000000"),
        ("gmail.com", {"per_day": 10**10}, "--per-day=10000000000 is not allowed"),
    ],
)
def test_what_is_no_rule_is_refused_by_name(db: Db, domain: str, limit: dict[str, int], told: str | None) -> None:
    if told is None:
        assert set_rule(db, domain, now=1, **limit).domain == "gmail.com"
        return
    with pytest.raises(UsageError) as error:
        set_rule(db, domain, now=1, **limit)
    assert told in str(error.value)
    assert list_rules(db) == []


def test_the_shipped_rules_leave_those_alone_that_are_there(db: Db) -> None:
    mine = set_rule(db, "gmail.com", per_hour=5, now=1)
    added = use_defaults(db, now=2)
    assert len(added) == len(DEFAULTS) - 1
    rules = load_rules(db)
    assert rules.for_address("a@gmail.com") == mine
    assert rules.for_address("a@qq.com") == DomainRule("qq.com", DEFAULTS["qq.com"], 2)
    assert use_defaults(db, now=3) == []
    named = (
        "googlemail.com outlook.com hotmail.com live.com yahoo.com aol.com icloud.com 163.com 126.com sina.com gmx.de"
    )
    assert set(f"{named} web.de mail.ru yandex.ru".split()) <= {rule.domain for rule in added}


def test_a_domain_has_its_own_tokens_at_each_server(replay: Replay, client: redis.Redis) -> None:
    first = reserve(replay, 500)
    assert isinstance(first, Block)
    assert first.left == 100
    refused = reserve(replay, 1)
    assert isinstance(refused, Refusal)
    assert refused.reason == "minute limit of gmail.com at server one"
    assert isinstance(reserve(replay, 1, DomainRule("qq.com", GMAIL.limits)), Block)
    assert isinstance(reserve(Replay(client, Limits()), 1), Block)
    assert not isinstance(replay.reserve(500), Refusal), "the server's tokens are others"
    replay.limiter.give_back(first)
    again = reserve(replay, 500)
    assert isinstance(again, Block)
    assert again.left == 100


def test_server_and_domain_together_give_what_both_leave(replay: Replay) -> None:
    def both(wanted: int) -> Block | Refusal:
        return replay.limiter.reserve(replay.server_id, "one", replay.limits, wanted, GMAIL)

    first = both(30)
    assert isinstance(first, Block)
    assert isinstance(reserve(replay, 60), Block)
    second = both(500)
    assert isinstance(second, Block)
    assert second.left == 10
    replay.limiter.give_back(first)
    server = replay.reserve(1000)
    assert not isinstance(server, Refusal)
    assert server.block.left == 490
    refused = both(1)
    assert isinstance(refused, Refusal)
    assert refused.reason == "minute limit of server one"


def test_no_window_of_a_domain_has_more_than_its_limit(replay: Replay) -> None:
    used = []
    while replay.clock.true < NOW + 2 * HOUR:
        got = reserve(replay, 7)
        if isinstance(got, Refusal):
            replay.clock.true = got.free_at * 1000
        else:
            used.append((replay.clock.true, got.left))
    assert most_in_any(used, MINUTE) <= 100
    assert most_in_any(used, HOUR) <= 1000
    assert sum(mails for at, mails in used if at < NOW + HOUR) == 1000


def test_each_batch_that_waits_finds_its_tokens_at_its_time(replay: Replay) -> None:
    assert isinstance(reserve(replay, 1000), Block)
    now = replay.clock.true
    times = [appointment(replay, 10) for _ in range(90)]
    assert times == sorted(times)
    # A minute's hundred tokens for ten batches, then the next minute's.
    assert [times.count(at) for at in sorted(set(times))] == [10] * 9
    assert 60_000_000 <= times[0] - now <= 61_300_000
    assert times[-1] - times[0] == 8 * 61_200_000
    for at in times:
        replay.clock.true = at
        got = reserve(replay, 10)
        assert isinstance(got, Block)
        assert got.left == 10


def test_a_batch_that_waits_where_tokens_come_one_by_one_comes_when_there_are_enough(replay: Replay) -> None:
    rule = DomainRule("slow.example", Limits(per_minute=20))
    for _ in range(20):
        assert isinstance(reserve(replay, 1, rule), Block)
        replay.clock.true += 3_000_000
    first, second = appointment(replay, 3, rule), appointment(replay, 2, rule)
    assert 5_000_000 <= second - first <= 7_000_000
    for at, mails in ((first, 3), (second, 2)):
        replay.clock.true = at
        got = reserve(replay, 10, rule)
        assert isinstance(got, Block)
        assert got.left == mails


def test_who_has_had_its_turn_is_not_waited_for(replay: Replay) -> None:
    assert isinstance(reserve(replay, 1000), Block)
    late = [appointment(replay, 50) for _ in range(4)][-1]
    # Nobody came: with all tokens free again there is nothing to wait for.
    replay.clock.true = late + 2 * MINUTE
    assert appointment(replay, 50) == replay.clock.true


def test_ten_thousand_batches_do_not_wake_together(replay: Replay) -> None:
    rule = DomainRule("slow.example", Limits(per_hour=1000))
    for _ in range(50):
        assert isinstance(reserve(replay, 20, rule), Block)
        replay.clock.true += 72_000_000
    times = sorted(appointment(replay, 10, rule) for _ in range(10_000))
    # A hundred have an appointment in the hour in which their thousand tokens come free.
    assert sum(at <= replay.clock.true + HOUR for at in times) >= 95
    # The others come some time after, so that limits that are raised are felt within two hours, not in four days.
    assert times[-1] <= replay.clock.true + 1.1 * HOUR
    busiest = max(sum(at <= one < at + MINUTE for one in times) for at in times[::100])
    assert busiest < 10_000 / 20


def test_a_batch_larger_than_the_limit_waits_for_more_than_one_window(replay: Replay) -> None:
    rule = DomainRule("slow.example", Limits(per_minute=10))
    assert isinstance(reserve(replay, 10, rule), Block)
    wait = appointment(replay, 35, rule) - replay.clock.true
    assert 4 * MINUTE <= wait <= 4.1 * MINUTE


def test_an_appointment_waits_for_the_next_day_when_today_is_used_up(replay: Replay) -> None:
    rule = DomainRule("slow.example", Limits(per_hour=60, per_day=60))
    assert isinstance(reserve(replay, 60, rule), Block)
    midnight = NOW + 14 * HOUR
    assert [appointment(replay, 20, rule) for _ in range(3)] == [midnight] * 3
    # For the fourth there is none on the next day either.
    assert midnight + 0.5 * HOUR <= appointment(replay, 20, rule) <= midnight + HOUR


def test_appointments_survive_a_clock_that_is_set_back(replay: Replay) -> None:
    assert isinstance(reserve(replay, 1000), Block)
    before = [appointment(replay, 10) for _ in range(10)]
    replay.clock.skew -= 5 * HOUR
    assert appointment(replay, 10) - before[-1] == 61_200_000


def test_while_tokens_are_counted_again_one_comes_back_soon(replay: Replay, client: redis.Redis) -> None:
    replay.limiter.forget(replay.server_id)
    assert appointment(replay, 10) == replay.clock.true + 250_000
