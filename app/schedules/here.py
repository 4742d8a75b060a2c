"""Runs in the calling process, without any queue: one user at once, or whoever is due."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from app.config import Settings
from app.db import Db
from app.errors import MailcrewError, Refused
from app.events import warn
from app.mail.notices import deliver_due
from app.models.schedules import Schedule, ScheduleState, User
from app.schedules.checks.tidying import tidy as remove_old_results
from app.schedules.claims import Claim, Run, claim_due, new_token, start
from app.schedules.dispatch import tidy
from app.schedules.running import Check, Ended, carry_out
from app.schedules.store import refuse_busy, run_now
from app.schedules.sweep import waiting_claims
from app.schedules.users import find_user

#: Somebody else may start or claim the same user between two steps of ours so many times.
TRIES = 20
#: Runs at a time when WORKER_CONCURRENCY says nothing.
THREADS = 2
#: How long a call goes on removing old results, in seconds.
TIDY_SECONDS = 2.0


@dataclass
class Batch:
    """What was run here: users by id with the end of their runs; `errors` are sentences."""

    ended: dict[int, Ended] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def run_user(db: Db, settings: Settings, said: str | int, check: Check) -> tuple[User, Ended]:
    """Run one user's checks now, due or not; a claim of his that waits in the queue is the one that is run.

    Raises NotFound, and Refused when he is off, runs already, or is taken out of our hands.
    """
    user = find_user(said)
    ended = carry_out(db, settings, _start_user(db, settings, user), check)
    if ended is None:
        raise Refused(f"the run of {user.email} was taken out of our hands (unlocked?); nothing is recorded")
    return user, ended


def _start_user(db: Db, settings: Settings, user: User) -> Run:
    for _ in range(TRIES):
        one = Schedule.get_by_id(user.id)
        if one.state is ScheduleState.QUEUED:
            run = start(db, user.id, str(one.locked_by), db.now_ms())
        else:
            refuse_busy(user, one)
            run_now(user.id, db.now_ms())
            run = _claim_and_start(db, settings, user.id)
        if run is not None:
            return run
    raise Refused(f"the schedule of {user.email} changes all the time; try again")


def _claim_and_start(db: Db, settings: Settings, only: int | None = None) -> Run | None:
    """Claim somebody who is due, or that one, and start his run; None when nobody is.

    In one transaction: a process that dies leaves nobody claimed and not started.
    """
    token, now = new_token(), db.now_ms()
    with db.transaction():
        claims = claim_due(db, token, now, settings.dispatch_lock_ttl, 1, only=only)
        return start(db, claims[0].user_id, token, now) if claims else None


def run_due(db: Db, settings: Settings, check: Check) -> Batch:
    """Run up to DISPATCH_BATCH_SIZE users who are due, or whom nobody has begun, and deliver what they are told.

    WORKER_CONCURRENCY at a time. Each is claimed when it is his turn, so a crash leaves nobody waiting.
    """
    tidy(db, settings, db.now_ms())
    size = settings.dispatch_batch_size
    found = waiting_claims(db, size)
    work = _Work(db, settings, check, deque((token, claim) for token, mine in found.items() for claim in mine), size)
    threads = [
        threading.Thread(target=work.go, name=f"run-{number}")
        for number in range(min(size, settings.worker_concurrency or THREADS))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _deliver(db, settings, work.batch)
    remove_old_results(db, db.now_ms(), settings.check_results_days, seconds=TIDY_SECONDS)
    return work.batch


class _Work:
    """What the threads of one call share."""

    def __init__(self, db: Db, settings: Settings, check: Check, waiting: deque[tuple[str, Claim]], size: int) -> None:
        self.batch = Batch()
        self._db = db
        self._settings = settings
        self._check = check
        self._waiting = waiting
        self._left = size
        self._lock = threading.Lock()

    def go(self) -> None:
        try:
            while self._may_run() and (run := self._next()):
                ended = carry_out(self._db, self._settings, run, self._check)
                with self._lock:
                    if ended:
                        self.batch.ended[run.user_id] = ended
                    else:
                        self.batch.errors.append(f"user {run.user_id}: the run was taken out of our hands")
        except Exception as error:  # the others go on; the caller is told
            warn("runs of this call were broken off", reason=f"{type(error).__name__}: {error}")
            with self._lock:
                self.batch.errors.append(f"{type(error).__name__}: {error}")
        finally:
            self._db.close()

    def _may_run(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _next(self) -> Run | None:
        while True:
            with self._lock:
                found = self._waiting.popleft() if self._waiting else None
            if found is None:
                break
            if run := start(self._db, found[1].user_id, found[0], self._db.now_ms()):
                return run
        return _claim_and_start(self._db, self._settings)


def _deliver(db: Db, settings: Settings, batch: Batch) -> None:
    try:
        deliver_due(db, settings)
    except MailcrewError as error:
        batch.errors.append(f"notices wait: {error}")
