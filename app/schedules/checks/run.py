"""One run of a user's checks: all targets that are switched on, some of them at once, each result recorded once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ALL_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Literal

from app.config import Settings
from app.db import Db
from app.mail.exchange import Way
from app.mail.outgoing import Stopped
from app.schedules.checks.check import PAUSE, check
from app.schedules.checks.outcome import Outcome
from app.schedules.checks.recording import Checked, record
from app.schedules.checks.store import Target, targets_to_check

#: A run ends after so many seconds, whatever is left of it.
LONGEST = 300.0
#: How often it looks whether it is to stop, and how long a result may wait for others to be recorded with, in seconds.
LOOK = 0.25
LINGER = 2.0

#: Longest text of a report, in characters.
LONGEST_ERROR = 500


@dataclass(frozen=True)
class Report:
    """`ok`: every target is as it should be; `failed`: some are not; `error`: some could not be looked at.

    `checks` counts the results that were recorded.
    """

    status: Literal["ok", "failed", "error"]
    error: str | None
    checks: int


class Run:
    """A run under way. Only the thread that made it speaks to the database."""

    def __init__(
        self, db: Db, targets: list[Target], way: Way, *, now: int, stop: threading.Event, seconds: float, pause: float
    ) -> None:
        self._db = db
        self._way = way
        self._now, self._began = now, time.monotonic()
        self._stop, self._until = stop, self._began + seconds
        self._halt = threading.Event()
        self._pause = pause
        self._open: dict[Future[tuple[Outcome, int]], Target] = {}
        self._targets = targets
        self.results: list[Checked] = []
        self.troubles: list[str] = []

    def carry_out(self, at_once: int) -> None:
        """Check all targets, `at_once` at a time, and record the results."""
        pool = ThreadPoolExecutor(min(at_once, len(self._targets)), thread_name_prefix="check")
        try:
            self._open = {pool.submit(self._check, target): target for target in self._targets}
            while self._open and not self._is_over():
                self._collect()
        finally:
            self._halt.set()
            pool.shutdown(cancel_futures=True)

    def left(self) -> int:
        """Targets of which nothing is recorded."""
        return len(self._targets) - len(self.results) - len(self.troubles)

    def _check(self, target: Target) -> tuple[Outcome, int]:
        """On a thread of the pool: the outcome, and when it was there."""
        outcome = check(target.wanted, self._way, self._halt, self._pause)
        return outcome, self._now + int((time.monotonic() - self._began) * 1000)

    def _is_over(self) -> bool:
        return self._stop.is_set() or time.monotonic() > self._until

    def _collect(self) -> None:
        """Wait until all is done, or for a moment, and record what is done by then."""
        lingering = time.monotonic() + LINGER
        while not self._is_over() and time.monotonic() < lingering:
            if not wait(self._open, LOOK, ALL_COMPLETED).not_done:
                break
        done = [future for future in self._open if future.done()]
        found = []
        for future in done:
            target = self._open.pop(future)
            try:
                outcome, at = future.result()
            except Stopped:
                continue
            except Exception as error:  # a mistake of ours must not keep the other targets from being recorded
                self.troubles.append(f"{target.wanted.name}: {type(error).__name__}: {error}")
                continue
            found.append(Checked(target, outcome, at))
        # Whoever told us to stop may have given this user to somebody else.
        if found and not self._stop.is_set():
            record(self._db, found)
            self.results += found


def run_checks(
    db: Db,
    settings: Settings,
    user_id: int,
    *,
    now: int,
    stop: threading.Event,
    way: Way | None = None,
    seconds: float = LONGEST,
    pause: float = PAUSE,
) -> Report:
    """Check a user's targets and record the results, for `seconds` at most; `now` is the instant of the start in ms.

    `stop` ends it within a second: what is not recorded by then stays as it was. Uses no Redis. `way` and `pause` are
    other than usual in tests. Raises what the database raises.
    """
    targets = targets_to_check(db, user_id)
    if not targets:
        return Report("ok", None, 0)
    run = Run(
        db, targets, way or Way(settings.allow_private_addresses), now=now, stop=stop, seconds=seconds, pause=pause
    )
    run.carry_out(settings.check_concurrency)
    return _report(run, len(targets), stop.is_set(), seconds)


def _report(run: Run, count: int, stopped: bool, seconds: float) -> Report:
    said = list(run.troubles)
    if left := run.left():
        why = "told to stop" if stopped else f"{seconds:g} s were over"
        said.insert(0, f"{left} of {count} targets were not checked: {why}")
    failed = [one for one in run.results if not one.outcome.ok]
    if failed:
        names = "; ".join(f"{one.target.wanted.name}: {one.outcome.error}" for one in failed)
        said.append(f"{len(failed)} of {count} targets failed: {names}")
    status: Literal["ok", "failed", "error"] = "error" if left or run.troubles else "failed" if failed else "ok"
    return Report(status, "; ".join(said)[:LONGEST_ERROR] or None, len(run.results))
