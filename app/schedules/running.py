"""Carry out one run that has been started: have its checks made, keep it meanwhile, record how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from app.clock import since_boot
from app.config import Settings
from app.db import Db
from app.db.connection import DatabaseTrouble
from app.events import emit, warn
from app.models.schedules import RunStatus
from app.schedules.claims import LONGEST_ERROR, Run, finish
from app.schedules.document import ResultDocument
from app.schedules.keeper import Held, keeper

#: A run is told to stop after so many seconds: longer than checks give themselves, shorter than the queue's `timeout`.
LONGEST_SECONDS = 420.0
RECORD_AGAIN_SECONDS = 1.0


class Report(Protocol):
    """What checks say of themselves: `status` is "ok", "failed" or "error"."""

    @property
    def status(self) -> str: ...
    @property
    def error(self) -> str | None: ...
    @property
    def checks(self) -> int: ...


#: check(db, settings, user_id, now=, stop=): ends soon after `stop` is set, and records nothing from then on.
Check = Callable[..., Report]


@dataclass(frozen=True)
class Ended:
    """How a run ended. Instants and durations in ms."""

    run: Run
    status: RunStatus
    error: str | None
    duration_ms: int
    checks: int

    def document(self, email: str) -> ResultDocument:
        """As scripts read it."""
        return {
            "user": email,
            "status": self.status.value,
            "error": self.error,
            "duration_ms": self.duration_ms,
            "checks": self.checks,
            "lag_ms": self.run.lag_ms,
        }


def carry_out(db: Db, settings: Settings, run: Run, check: Check, seconds: float = LONGEST_SECONDS) -> Ended | None:
    """Make the checks of a run and record how it ended; None when it was lost meanwhile, and nothing is recorded."""
    began = since_boot()
    with keeper.keeping(db, run, began, seconds) as held:
        try:
            report = check(db, settings, run.user_id, now=run.started_at, stop=held.stop)
            status, error, checks = RunStatus(report.status), report.error, report.checks
        except BaseException as problem:  # the queue's time limit too: a run that was cut off has ended
            status, error, checks = RunStatus.ERROR, f"{type(problem).__name__}: {problem}", 0
            warn("checks could not be made", user=run.user_id, reason=error[:LONGEST_ERROR])
            if isinstance(problem, KeyboardInterrupt | SystemExit):
                held.stop.set()
                raise
        if held.out_of_time:
            status, error = RunStatus.ERROR, f"not done within {seconds:g} s" + (f"; {error}" if error else "")
        duration = int((since_boot() - began) * 1000)
        ended = Ended(run, status, error, duration, checks)
        if not _record(db, held, ended):
            warn("run lost: somebody else has taken its user, nothing is recorded", user=run.user_id, period=run.period)
            return None
    emit(
        "checks made", user=run.user_id, status=status, checks=checks, ms=duration, lag_ms=run.lag_ms, reason=error,
    )  # fmt: skip
    return ended


def _record(db: Db, held: Held, ended: Ended) -> bool:
    """Write the end down, again and again while the run is ours and the database is away."""
    while not held.lost:
        try:
            return finish(db, ended.run, ended.status, ended.error, ended.duration_ms, ended.checks)
        except DatabaseTrouble as error:
            warn("the end of a run cannot be recorded yet", user=ended.run.user_id, reason=str(error))
            db.close()
            time.sleep(RECORD_AGAIN_SECONDS)
    return False
