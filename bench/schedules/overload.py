"""Real workers with more work than they can do: fifty users, a slow site, claims that outlive their lock.

What `long_queue.py` reckons in virtual time, in real processes: work, intervals and locks are short here, so that it
takes minutes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import quantiles

from app.queues.broker import redis_client
from app.queues.workers import live_workers
from app.schedules.checks.store import add_target
from app.schedules.dispatch import QUEUE, dispatch, put_claims
from bench import common, table
from bench.common import Place
from bench.table import Figure
from tests.checks.site import Site, Visit, http

USERS, WORK_SECONDS, SECONDS, TICK_SECONDS = 50, 3.0, 160, 10.0
#: The shortest lock that is allowed; the queue is two minutes long.
VARIABLES = {"ALLOW_PRIVATE_ADDRESSES": "all", "DISPATCH_LOCK_TTL": "10000"}
FLEETS = (("1 worker of 2 threads", 1, 2), ("1 worker of 4", 1, 4), ("2 workers of 2", 2, 2))
TABLES = ("users", "user_monitor_schedules", "schedule_runs", "targets", "check_results", "check_days")


class SlowSite:
    """A page a user, which answers after a while and notes when somebody asks for it twice at a time."""

    def __init__(self) -> None:
        self.together = 0
        self._inside: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._site = Site({f"/{user}": self._answer for user in range(1, USERS + 1)})

    def __enter__(self) -> SlowSite:
        return self

    def __exit__(self, *_: object) -> None:
        self._site.down()

    def url(self, user: int) -> str:
        return self._site.url(f"/{user}")

    def _answer(self, visit: Visit) -> None:
        with self._lock:
            self.together += self._inside[visit.path] > 0
            self._inside[visit.path] += 1
        self._site.closed.wait(WORK_SECONDS)
        with self._lock:
            self._inside[visit.path] -= 1
        visit.say(200, b"at last")


def overload(place: Place) -> list[Figure]:
    """Each fleet for a while: how late the runs begin, and that nobody is doubled or starved."""
    return [figure for name, workers, threads in FLEETS for figure in measure(place, name, workers, threads)]


def measure(place: Place, name: str, workers: int, threads: int) -> list[Figure]:
    logging.disable(logging.WARNING)  # every tick says that runs are still going
    client, renewed, lost = redis_client(place.settings.redis_url), 0, 0
    client.flushdb()
    with SlowSite() as site, fleet(place, workers, threads):
        common.wait(lambda: len(live_workers(client)) == workers, 60, "no worker")
        fill(place, site)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            swept = dispatch(place.db, place.settings, put_claims(client), place.db.now_ms()).swept
            renewed, lost = renewed + swept.renewed, lost + swept.put_back
            time.sleep(TICK_SECONDS)
    return described(place, name, site.together, renewed, lost)


@contextmanager
def fleet(place: Place, workers: int, threads: int) -> Iterator[None]:
    with ExitStack() as stack:
        for number in range(workers):
            stack.enter_context(common.worker(place, threads=threads, name=f"monitor_{number:02}", queue=QUEUE))
        yield


def fill(place: Place, site: SlowSite) -> None:
    """Everybody due at once, every minute from then on, with one target."""
    db, now = place.db, place.db.now_ms()
    for name in TABLES:
        db.run(f"DELETE FROM {name}")
    users = range(1, USERS + 1)
    db.run_many(
        "INSERT INTO users (id, email, email_key, created_at)",
        [(user, f"u{user}@example.test", f"u{user}@example.test", now) for user in users],
    )
    db.run_many(
        "INSERT INTO user_monitor_schedules (user_id, interval_minutes, next_run_at)",
        [(user, 1, now) for user in users],
    )
    for user in users:
        add_target(db, user, http(site.url(user), timeout_seconds=30), now)


def described(place: Place, name: str, together: int, renewed: int, lost: int) -> list[Figure]:
    db = place.db
    lags = [int(late) / 1000 for (late,) in db.rows("SELECT started_at - period FROM schedule_runs")]
    doubled = db.rows("SELECT 1 FROM schedule_runs GROUP BY user_id, period HAVING COUNT(*) > 1")
    runs = [int(count) for (count,) in db.rows("SELECT runs FROM user_monitor_schedules")]
    skipped = int(db.value("SELECT SUM(skipped) FROM user_monitor_schedules"))
    wrong = len(doubled) + together + sum(count == 0 for count in runs) + lost
    cuts = quantiles(lags, n=100)
    details = (
        f"{len(lags)} runs, lag p50 {cuts[49]:.0f} s, p99 {cuts[98]:.0f} s; runs of a user {min(runs)}–{max(runs)}; "
        f"{skipped} periods skipped; {renewed} times a claim outlived its lock"
    )
    what = f"{place.database}: {name}, doubled, starved, at once or lost"
    return [table.figure(what, [float(wrong)], bar=0, at_most=True, details=details)]
