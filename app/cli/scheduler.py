"""`bin/scheduler`: periodiq, which waits for Redis as often and as long as it takes.

By itself periodiq exits when Redis does not answer. Started before Redis, or while Redis restarts, it
would die over and over, each time waiting longer. It ticks at once when it begins again, and what a tick
starts is looked up in the database, so missed minutes are made up by the first one.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence

import periodiq
import redis
from dramatiq.cli import LOGFORMAT
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.config import ROOT, settings
from app.errors import MailcrewError
from app.queues.broker import RedisTrouble
from app.workers.parent import end_with_parent

BROKER = "actors.broker:broker"
MODULES = "actors.periodic"

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
REFUSED_PAUSE = 1.0
TIMEOUT = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="scheduler",
        description="Puts the periodic ticks into their queue on time; waits for Redis as long as it takes.",
        epilog="example: bin/scheduler",
    )
    parser.add_argument("--modules", default=MODULES, help=f"modules with the actors that tick (default: {MODULES})")
    modules = parser.parse_args(argv).modules.split(",")
    # SIGTERM keeps its default action on purpose: it ends the wait, and later periodiq, at once.
    try:
        found = settings()
        end_with_parent(found)
        return tick_for_ever(found.redis_url, modules)
    except MailcrewError as error:
        print(f"scheduler: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def tick_for_ever(url: str, modules: Sequence[str]) -> int:
    """Run periodiq, again each time that Redis goes away; returns only when nothing is there to schedule."""
    logging.basicConfig(level=logging.INFO, format=LOGFORMAT)
    # In this process, so that ps and pgrep go on showing bin/scheduler.
    words = periodiq.make_argument_parser().parse_args([BROKER, *modules, "--path", str(ROOT)])
    while True:
        wait_for_redis(url)
        try:
            return int(periodiq.main(words))
        except (*RedisTrouble, OSError) as error:
            print(f"scheduler: a tick did not reach Redis: {error}", file=sys.stderr, flush=True)
        # A Redis that answers and takes nothing (full, a replica) is no reason to spin.
        time.sleep(REFUSED_PAUSE)


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
