"""Fifty users with four minutes of work each, every five minutes: more than the workers can do, in virtual time.

The statements are the real ones on a real database; the queue is a list, a worker's thread is a moment at which it is
free again. A claim waits in the queue for longer than its lock lasts, so the dispatcher looks for it again and again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import quantiles

from app.config import Settings
from app.db import Db
from app.models.schedules import RunStatus
from app.scaling.policy import Demand, Limits, Past, plan
from app.scaling.rates import Meter
from app.schedules.claims import Claim, Run, finish, renew, start
from app.schedules.dispatch import dispatch
from app.schedules.times import MINUTE
from bench import common, table
from bench.common import Place
from bench.table import Figure

HOURS = 6
USERS, INTERVAL_MINUTES, WORK_MS = 50, 5, 4 * MINUTE
STEP_MS, LOOK_MS = 10_000, 10_000
#: The row of the queue `monitor` in the shipped table.
LIMITS = Limits(floor=1, max=4, tasks_per_worker=50)
START = 1_790_000_000_000


@dataclass
class Result:
    """What came of one run: lags in minutes, of each user how often he ran, and what must be zero."""

    name: str
    lags: list[float] = field(default_factory=list)
    runs: dict[int, int] = field(default_factory=dict)
    skipped: int = 0
    looked_for: int = 0
    most_waiting: int = 0
    doubled: int = 0
    at_once: int = 0
    workers: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def starved(self) -> int:
        """Users who never ran."""
        return sum(count == 0 for count in self.runs.values())

    def lag(self, percent: int) -> float:
        return quantiles(self.lags, n=100)[percent - 1]


class LongQueue:
    """`workers` with `threads` each; 0: the manager's policy decides how many, once it looks."""

    def __init__(self, db: Db, settings: Settings, name: str, workers: int, threads: int) -> None:
        self._db = db
        self._settings = replace(settings, dispatch_batch_size=20)
        self._result = Result(name, runs=dict.fromkeys(range(1, USERS + 1), 0))
        self._managed = workers == 0
        self._workers, self._threads = workers or LIMITS.floor, threads
        self._now = START
        self._waiting: list[tuple[str, int]] = []
        #: When each of those that wait was enqueued.
        self._since: dict[tuple[str, int], int] = {}
        self._going: list[tuple[int, Run]] = []
        self._ended = 0
        self._past, self._meter = Past(self._workers), Meter()

    def run(self, hours: int) -> Result:
        self._fill()
        for step in range(hours * 60 * MINUTE // STEP_MS):
            self._now = START + step * STEP_MS
            if step * STEP_MS % MINUTE == 0:
                self._result.looked_for += dispatch(self._db, self._settings, self._put, self._now).swept.renewed
                self._result.most_waiting = max(self._result.most_waiting, len(self._waiting))
            self._work()
            if self._managed:
                self._look()
            self._result.workers.append(self._workers)
        self._result.skipped = int(self._db.value("SELECT SUM(skipped) FROM user_monitor_schedules"))
        self._result.doubled = int(
            self._db.value(
                "SELECT COUNT(*) FROM (SELECT 1 FROM schedule_runs GROUP BY user_id, period HAVING COUNT(*) > 1) AS t"
            )
        )
        return self._result

    def _fill(self) -> None:
        for name in ("user_monitor_schedules", "schedule_runs"):
            self._db.run(f"DELETE FROM {name}")
        rows = [(user, INTERVAL_MINUTES, START) for user in self._result.runs]
        self._db.run_many(
            "INSERT INTO user_monitor_schedules (user_id, interval_minutes, next_run_at)", rows
        )  # fmt: skip

    def _put(self, token: str, claims: Sequence[Claim]) -> int:
        new = [key for claim in claims if (key := (token, claim.user_id)) not in self._since]
        self._since |= dict.fromkeys(new, self._now)
        self._waiting += new
        return len(new)

    def _work(self) -> None:
        for ends, going in list(self._going):
            if ends > self._now:
                assert renew(self._db, going, self._now)
                continue
            self._going.remove((ends, going))
            assert finish(self._db, going, RunStatus.OK, None, WORK_MS, 1)
            self._ended += 1
        while self._waiting and len(self._going) < self._workers * self._threads:
            token, user = self._waiting.pop(0)
            del self._since[token, user]
            run = start(self._db, user, token, self._now)
            if run is None:
                continue
            self._result.at_once += any(other.user_id == user for _, other in self._going)
            self._going.append((self._now + WORK_MS, run))
            self._result.lags.append(run.lag_ms / MINUTE)
            self._result.runs[user] += 1

    def _look(self) -> None:
        """What the manager does every ten seconds."""
        seconds = (self._now - START) / 1000
        busy = min(self._workers, -(-len(self._going) // self._threads))
        self._meter.note(seconds, {"all": self._ended}, self._workers, busy)
        oldest = (self._now - self._since[self._waiting[0]]) / 1000 if self._waiting else None
        demand = Demand(len(self._waiting), len(self._going), oldest, self._meter.rate(), busy)
        decision = plan(demand, LIMITS, self._past, seconds)
        if decision.target != self._workers:
            self._result.reasons.append(
                f"{seconds / 60:.0f} min: {self._workers} → {decision.target}, {decision.reason}"
            )
        self._workers, self._past = decision.target, decision.past


FLEETS = (("1 worker of 2", 1, 2), ("1 worker of 4", 1, 4), ("2 workers of 2", 2, 2), ("manager, workers of 2", 0, 2))


def long_queue(place: Place) -> list[Figure]:
    """What becomes of the lag when there is more work than workers, and that nobody is doubled or starved."""
    figures = []
    logging.disable(logging.WARNING)  # every minute says that runs are still going
    for name, workers, threads in FLEETS:
        found = LongQueue(place.db, place.settings, name, workers, threads).run(HOURS)
        figures += described(place.database, found)
        for reason in found.reasons:
            common.tell(f"{place.database}, {name}: {reason}")
    return figures


def described(database: str, found: Result) -> list[Figure]:
    what = f"{database}: {found.name}"
    counts = found.runs.values()
    details = (
        f"lag p50 {found.lag(50):.0f} min, p99 {found.lag(99):.0f} min; runs of a user {min(counts)}–{max(counts)}; "
        f"{found.skipped:,} periods skipped; {found.most_waiting} waited at most; {found.looked_for} times a claim "
        f"outlived its lock; workers {found.workers[0]}–{max(found.workers)}"
    )
    return [
        table.figure(f"{what}, runs in {HOURS} h", [float(len(found.lags))], bar=None, details=details),
        table.figure(
            f"{what}, doubled or starved", [float(found.doubled + found.at_once + found.starved)], bar=0, at_most=True
        ),
    ]  # fmt: skip
