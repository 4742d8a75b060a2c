"""The Redis broker: Dramatiq's own wire format, so that its dashboard and command line still work."""

from __future__ import annotations

from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, Callbacks, CurrentMessage, Pipelines, Retries, TimeLimit
from periodiq import PeriodiqMiddleware

#: What redis-py raises when the server is away, frozen, loading, demoted to a replica, full (OOM) or
#: unable to write its file (MISCONF): all of them pass, and none may end a worker or one of its threads.
RedisTrouble = (redis.RedisError,)

NAMESPACE = "dramatiq"


class KeepingRetries(Retries):
    """Marks a message whose retry could not be enqueued: Dramatiq swallows that error, and acknowledges."""

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        try:
            super().after_process_message(  # type: ignore[no-untyped-call]
                broker, message, result=result, exception=exception
            )
        except RedisTrouble:
            message.retry_lost = True
            raise


def make_broker(url: str) -> RedisBroker:
    """A broker for this Redis, set as Dramatiq's global one.

    By URL: with host and port redis-py would retry ten times unseen, and one send could become
    two messages.
    """
    broker = RedisBroker(  # type: ignore[no-untyped-call]
        client=redis_client(url),
        namespace=NAMESPACE,
        # Its maintenance comes at random, uses KEYS and trusts the clients' clocks: see reaper.
        maintenance_chance=0,
        middleware=[
            AgeLimit(),
            TimeLimit(),
            Callbacks(),
            Pipelines(),
            KeepingRetries(min_backoff=1_000, max_backoff=3_600_000),
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
