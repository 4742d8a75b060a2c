"""How long the rest of a campaign takes under limits: pure arithmetic, held against sending it second by second."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.campaigns.estimates import SPANS, ServerLimits, least_seconds, seconds_left

FREE = ServerLimits(None, None, None, None)


def limits(**said: int) -> ServerLimits:
    return ServerLimits(*(said.get(f"per_{kind}") for kind in ("second", "minute", "hour", "day")))


@pytest.mark.parametrize(
    ("left", "servers", "seconds"),
    [
        (100, [], 0),
        (100, [FREE], 0),
        (10, [limits(per_second=10)], 0),
        (11, [limits(per_second=10)], 1),
        (100, [limits(per_second=10), FREE], 0),
        (61, [limits(per_minute=60)], 60),
        (3601, [limits(per_second=10, per_hour=3600)], 3600),
        (200, [limits(per_second=10), limits(per_second=30)], 4),
        (250_001, [limits(per_day=50_000)], 5 * 86_400),
    ],
)
def test_how_soon_mails_may_go_at_best(left: int, servers: list[ServerLimits], seconds: int) -> None:
    assert least_seconds(left, servers) == seconds


LIMIT = st.none() | st.integers(1, 50)
SERVERS = st.lists(st.builds(ServerLimits, LIMIT, LIMIT, st.none(), st.none()), min_size=1, max_size=3)


@given(SERVERS, st.integers(1, 200))
def test_it_is_when_sending_second_by_second_would_be_done(servers: list[ServerLimits], left: int) -> None:
    sent, at, counts = 0, 0, [dict[int, int]() for _ in servers]
    while True:
        for server, count in zip(servers, counts, strict=True):
            every = (server.per_second, server.per_minute, server.per_hour, server.per_day)
            room = [
                limit - sum(count.get(at - back, 0) for back in range(span))
                for limit, span in zip(every, SPANS, strict=True)
                if limit is not None
            ]
            count[at] = min(room, default=left)
            sent += count[at]
        if sent >= left:
            break
        at += 1
    # Limits of two kinds keep each other from being used at once, so it may take longer than the bound.
    assert least_seconds(left, servers) <= at
    if not any(server.per_second and server.per_minute for server in servers):
        assert least_seconds(left, servers) == at


def test_the_estimate_is_the_speed_until_limits_bind() -> None:
    hour = [limits(per_hour=3600)]
    assert seconds_left(500, 100.0, 0, hour) == 5.0
    assert seconds_left(7300, 100.0, 0, hour) == 7200.0
    assert seconds_left(500, 0.0, 0, hour) is None, "nobody knows before anything was sent"
    assert seconds_left(500, 0.0, 60.0, hour) == 560.0, "held, it goes at the pace of the limit afterwards"
    assert seconds_left(500, 10.0, 60.0, [FREE]) == 110.0
    assert seconds_left(500, 0.0, 60.0, [FREE]) is None
    assert seconds_left(0, 10.0, 0, hour) is None
    assert seconds_left(10**9, 10.0, 5.0, [limits(per_day=1)]) is None, "further than anybody looks"
    assert least_seconds(10**9, [limits(per_day=1)]) == math.inf
