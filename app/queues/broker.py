"""The Redis broker: Dramatiq's own wire format, so that its dashboard and command line still work."""

from __future__ import annotations

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, Callbacks, CurrentMessage, Pipelines, Retries, TimeLimit
from periodiq import PeriodiqMiddleware

#: What redis-py raises when the server is away, frozen, loading or demoted to a replica. A
#: timeout and a read-only reply are no `ConnectionError` there, but mean the same to us.
RedisTrouble = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError)

NAMESPACE = "dramatiq"


def make_broker(url: str) -> RedisBroker:
    """A broker for this Redis, set as Dramatiq's global one.

    By URL: with host and port redis-py would retry ten times unseen, and one send could become
    two messages.
    """
    broker = RedisBroker(  # type: ignore[no-untyped-call]
        client=redis_client(url),
        namespace=NAMESPACE,
        middleware=[
            AgeLimit(),
            TimeLimit(),
            Callbacks(),
            Pipelines(),
            Retries(min_backoff=1_000, max_backoff=3_600_000),
            CurrentMessage(),
            # First of the two that know `periodic=`; ticks are idempotent and catch up from the
            # database, so one that waited behind a slow tick is better run than skipped.
            PeriodiqMiddleware(skip_delay=300),
        ],
    )
    dramatiq.set_broker(broker)
    return broker


def redis_client(url: str) -> redis.Redis:
    """A client that fails within seconds when Redis is frozen, and never retries by itself."""
    return redis.Redis(
        connection_pool=redis.ConnectionPool.from_url(
            url, socket_timeout=10, socket_connect_timeout=5, health_check_interval=0
        )
    )
