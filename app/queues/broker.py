"""The Redis broker: Dramatiq's own wire format, so that its dashboard and command line still work."""

from __future__ import annotations

from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, Callbacks, CurrentMessage, Pipelines, Retries
from periodiq import PeriodiqMiddleware

from app.queues.time_limit import TimeLimits

#: What redis-py raises when the server is away, frozen, loading, demoted to a replica, full (OOM) or
#: unable to write its file (MISCONF): all of them pass, and none may end a worker or one of its threads.
RedisTrouble = (redis.RedisError,)

NAMESPACE = "dramatiq"


class AtomicRetries(Retries):
    """Leaves the retry to the worker loop, which makes enqueuing it and letting go of the message one step.

    The loop asks for that by `retry_in = None` on the message and finds there the delay in ms. Without
    it (plain `dramatiq`) a retry is enqueued at once, as Dramatiq does it.
    """

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        asked = "retry_in" in vars(message)
        super().after_process_message(  # type: ignore[no-untyped-call]
            _Catching(broker) if asked else broker, message, result=result, exception=exception
        )


class _Catching:
    """A broker for whom enqueuing means to write down when."""

    def __init__(self, broker: Any) -> None:
        self.get_actor = broker.get_actor

    def enqueue(self, message: Any, *, delay: int) -> None:
        message.retry_in = delay


def set_limits(broker: RedisBroker, *, tries: int, timeout: float) -> TimeLimits:
    """Attempts in all, and seconds, of the tasks whose actors set neither `max_retries` nor `time_limit`."""
    for middleware in broker.middleware:
        if isinstance(middleware, Retries):
            middleware.max_retries = tries - 1
    limits = time_limits(broker)
    limits.seconds = timeout
    return limits


def time_limits(broker: Any) -> TimeLimits:
    """The time limits of a broker that make_broker made."""
    return next(middleware for middleware in broker.middleware if isinstance(middleware, TimeLimits))


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
            TimeLimits(),
            Callbacks(),
            Pipelines(),
            AtomicRetries(min_backoff=1_000, max_backoff=3_600_000),
            CurrentMessage(),
            # First of the two that know `periodic=`; ticks are idempotent and catch up from the
            # database, so one that waited behind a slow tick is better run than skipped.
            PeriodiqMiddleware(skip_delay=300),
        ],
    )
    dramatiq.set_broker(broker)
    return broker


def redis_client(url: str, patience: float = 10) -> redis.Redis:
    """A client that fails within `patience` seconds when Redis is frozen, and never retries by itself."""
    return redis.Redis(
        connection_pool=redis.ConnectionPool.from_url(
            url, socket_timeout=patience, socket_connect_timeout=min(5, patience), health_check_interval=0
        )
    )
