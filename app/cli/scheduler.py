"""`bin/scheduler`: wait for Redis, then be periodiq.

periodiq exits at once when Redis does not answer. Started before Redis, or while Redis restarts, it
would die over and over, each time waiting longer; so Redis is waited for here.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import periodiq
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.config import ROOT, settings

BROKER = "actors.broker:broker"
MODULES = ("actors.periodic",)

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
TIMEOUT = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scheduler",
        description="Puts the periodic ticks into their queue on time; waits for Redis as long as it takes.",
        epilog="example: bin/scheduler",
    )
    parser.parse_args(argv)
    # SIGTERM keeps its default action on purpose: it ends the wait, and later periodiq, at once.
    try:
        wait_for_redis(settings().redis_url)
    except KeyboardInterrupt:
        return 130
    # Its own command line, in this process: ps and pgrep go on showing bin/scheduler.
    sys.argv = ["periodiq", BROKER, *MODULES, "--path", str(ROOT)]
    periodiq.entrypoint()
    return 1


def wait_for_redis(url: str) -> None:
    """Return when Redis answers, however long that takes; each new reason is said once."""
    client = redis.Redis.from_url(
        url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0)
    )
    said, pause = "", FIRST_PAUSE
    while True:
        try:
            client.ping()
            client.close()
            return
        except (redis.RedisError, OSError) as error:
            if str(error) != said:
                said = str(error)
                print(f"scheduler: waiting for Redis: {said}", file=sys.stderr, flush=True)
        time.sleep(pause)
        pause = min(LONGEST_PAUSE, pause * 2)


if __name__ == "__main__":
    sys.exit(main())
