"""A week of schedules in virtual time: the real statements on a real database, everything around them goes wrong.

Workers die before and after the start, messages are lost, doubled and late, the queue takes nothing or forgets all,
dispatchers work side by side or die with a claim in hand, and the clock jumps. What must have happened is reckoned
apart, from nothing but each user's first instant and interval.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import redis

from app.config import Settings
from app.db import Db
from app.models.schedules import RunStatus
from app.schedules.claims import Claim, Run, claim_due, finish, new_token, renew, start
from app.schedules.dispatch import dispatch
from app.schedules.times import MINUTE
from tests.schedules.people import NOW, add_users

#: The world moves in steps of so many ms, the dispatchers at full minutes.
STEP = 20_000
HOUR = 60 * MINUTE
Key = tuple[str, int]


@dataclass
class Chances:
    """How likely each misfortune is: the first four for a message or run, the others for a minute."""

    dies_before: float = 0.01
    dies_after: float = 0.01
    doubled: float = 0.01
    long: float = 0.03
    second_dispatcher: float = 0.3
    dead_dispatcher: float = 0.01
    deaf_queue: float = 0.01
    forgetful_queue: float = 0.01


CALM = Chances(0, 0, 0, 0, 0, 0, 0, 0)


@dataclass
class Segment:
    """A stretch in which the clock did not go back: dispatched from behind `after` to `until`.

    `spared`: users whose last period lay ahead again when it began; it is not due a second time.
    """

    after: int
    until: int
    spared: dict[int, int] = field(default_factory=dict)


@dataclass(eq=False)
class Going:
    """A run in a worker's hands; a dead worker renews and ends nothing."""

    run: Run
    ends: int
    alive: bool


class Week:
    """Users with random intervals, and everything that happens to them."""

    def __init__(self, db: Db, settings: Settings, users: int, seed: int, longest: int = 1440) -> None:
        self.db = db
        self.chance = random.Random(seed)
        # A claim outlives its lock after five minutes.
        self._settings = replace(settings, dispatch_lock_ttl=5 * MINUTE, dispatch_batch_size=self.chance.randint(1, 40))
        self.real, self._wall = 0, NOW
        self.intervals, self.firsts = dict[int, int](), dict[int, int]()
        for _ in range(users):
            minutes = self.chance.randint(1, longest)
            first = NOW + self.chance.randint(0, minutes * MINUTE)
            (user,) = add_users(db, 1, minutes=minutes, due=first)
            self.intervals[user], self.firsts[user] = minutes * MINUTE, first
        self.chances = Chances()
        self._waiting: list[Key] = []
        self._known: set[Key] = set()
        self._late: list[tuple[int, Key]] = []
        self._going: list[Going] = []
        self._segments = [Segment(0, NOW)]
        self.claims: dict[Key, int] = {}
        self.starts: dict[Key, Run] = {}
        #: Segment, user and period of every claim, and those that there should not be.
        self._periods: set[tuple[int, int, int]] = set()
        self.doubled: list[Claim] = []
        self.finished = 0
        self.misfortunes: Counter[str] = Counter()

    # -- time --------------------------------------------------------------------------------------

    def pass_minutes(self, minutes: int) -> None:
        for _ in range(minutes):
            self._minute()
            for _ in range(MINUTE // STEP):
                self._work()
                self._move(STEP)

    def jump(self, by: int) -> None:
        """Set the clock on, or back; before it goes back everything that is due has been dispatched."""
        self.misfortunes["clock back" if by < 0 else "clock on"] += 1
        if by < 0:
            self._dispatch(fails=False)
        self._move(by, passes=False)
        if by < 0:
            spared = {}
            for user, period in self.db.rows("SELECT user_id, period FROM user_monitor_schedules"):
                if period is not None and self._wall < int(period) <= self._wall + self.intervals[int(user)]:
                    spared[int(user)] = int(period)
            self._segments.append(Segment(self._wall, self._wall, spared))

    def _move(self, by: int, passes: bool = True) -> None:
        self._wall += by
        self.real += by if passes else 0

    # -- dispatchers -------------------------------------------------------------------------------

    def _minute(self) -> None:
        if self._happens("forgetful_queue"):
            self._waiting.clear()
            self._known.clear()
            self._late.clear()
        if self._happens("dead_dispatcher"):
            self._claimed(token := new_token(), claim_due(self.db, token, self._wall, 5 * MINUTE, 10))
        self._dispatch(fails=self._happens("deaf_queue"))
        if self._happens("second_dispatcher"):
            self._dispatch(fails=False)

    def _dispatch(self, fails: bool) -> None:
        def put(token: str, claims: Sequence[Claim]) -> int:
            if fails:
                raise redis.ConnectionError("away")
            new = [claim for claim in claims if (token, claim.user_id) not in self._known]
            for claim in new:
                self._enqueue((token, claim.user_id))
            self._claimed(token, claims)
            return len(new)

        done = dispatch(self.db, self._settings, put, self._wall)
        assert fails or not done.errors
        if not fails:
            self._segments[-1].until = max(self._segments[-1].until, self._wall)

    def _claimed(self, token: str, claims: Sequence[Claim]) -> None:
        for claim in claims:
            key = (token, claim.user_id)
            if key in self.claims:
                assert self.claims[key] == claim.period, "a claim that is dispatched again keeps its period"
                continue
            self.claims[key] = claim.period
            where = (len(self._segments), claim.user_id, claim.period)
            # The clock comes to a period again only after it was set back, and not to the one that was last.
            if where in self._periods or self._segments[-1].spared.get(claim.user_id) == claim.period:
                self.doubled.append(claim)
            self._periods.add(where)

    def _enqueue(self, key: Key) -> None:
        self._waiting.append(key)
        self._known.add(key)
        if self._happens("doubled"):
            self._waiting.append(key)

    # -- workers -----------------------------------------------------------------------------------

    def _work(self) -> None:
        self._waiting += [key for due, key in self._late if due <= self.real]
        self._late = [(due, key) for due, key in self._late if due > self.real]
        taken, self._waiting = self._waiting[:50], self._waiting[50:]
        for key in taken:
            self._take(key)
        for going in list(self._going):
            self._go_on(going)

    def _take(self, key: Key) -> None:
        if self._happens("dies_before"):
            # The reaper gives its message to another worker.
            self._late.append((self.real + 50_000, key))
            return
        self._known.discard(key)
        run = start(self.db, key[1], key[0], self._wall)
        if run is None:
            return
        assert key not in self.starts, "a claim is started once"
        self.starts[key] = run
        takes = self.chance.randint(MINUTE, 20 * MINUTE) if self._happens("long") else 0
        self._going.append(Going(run, self.real + takes, not self._happens("dies_after")))

    def _go_on(self, going: Going) -> None:
        if not going.alive:
            self._going.remove(going)
        elif self.real >= going.ends:
            self._going.remove(going)
            self.finished += finish(self.db, going.run, RunStatus.OK, None, 1, 1)
        elif not renew(self.db, going.run, self._wall):
            self._going.remove(going)

    def _happens(self, what: str) -> bool:
        happens = bool(self.chance.random() < getattr(self.chances, what))
        self.misfortunes[what] += happens
        return happens

    # -- what must have happened -------------------------------------------------------------------

    def expected(self, user: int) -> int:
        """How many periods the user's rhythm has had, by the clock as it went."""
        first, interval, count = self.firsts[user], self.intervals[user], 0
        for segment in self._segments:
            count += (segment.until - first) // interval - (segment.after - first) // interval
            if not segment.after:
                # Nothing was due before the first instant.
                count = (segment.until - first) // interval + 1 if segment.until >= first else 0
            spared = segment.spared.get(user)
            count -= spared is not None and spared <= segment.until
        return count


def jumps(week: Week, hours: int) -> None:
    """So many hours, the clock jumping every now and then by minutes or hours."""
    for hour in range(hours):
        week.pass_minutes(60)
        if hour % 9 == 4:
            week.jump(week.chance.choice([-1, 1, 1]) * week.chance.choice([40_000, 3 * MINUTE, 50 * MINUTE, 5 * HOUR]))


def check(week: Week) -> None:
    rows = week.db.rows(
        "SELECT user_id, runs, skipped, overruns, interruptions, locked_by, period, next_run_at "
        "FROM user_monitor_schedules"
    )
    assert len(rows) == len(week.intervals)
    claims = dict.fromkeys(week.intervals, 0)
    for _, user in week.claims:
        claims[user] += 1
    for user, runs, skipped, overruns, _, locked_by, period, next_run_at in rows:
        assert (user, skipped + overruns + claims[user]) == (user, week.expected(user))
        # Every claim has become a run.
        assert locked_by is None
        assert runs == claims[user]
        for instant in (period, next_run_at):
            assert instant is None or (instant - week.firsts[user]) % week.intervals[user] == 0
    assert week.doubled == []
    assert set(week.starts) == set(week.claims)
    interruptions = sum(row[4] for row in rows)
    assert week.finished + interruptions == len(week.starts)
    history = week.db.rows("SELECT status, COUNT(*) FROM schedule_runs GROUP BY status")
    assert Counter(dict(history)) == Counter(ok=week.finished, interrupted=interruptions)


@contextmanager
def careless(db: Db) -> Iterator[None]:
    """Inside, the database syncs no file: these weeks end with their process."""
    sqlite = db.dialect == "sqlite"
    for_speed, for_life = (
        ("PRAGMA synchronous = 0", "PRAGMA synchronous = 2")
        if sqlite
        else ("SET GLOBAL innodb_flush_log_at_trx_commit = 0", "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    )
    db.run(for_speed)
    try:
        yield
    finally:
        db.run(for_life)
