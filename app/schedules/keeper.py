"""Keep the runs of this process ours while they go on, on a thread and a database connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.clock import since_boot
from app.db import Db
from app.events import warn
from app.schedules.claims import LEASE_MS, Run, renew

LOOK_SECONDS = 1.0
#: Renewed so often, because it also tells whether a person has taken the user away.
RENEW_SECONDS = 5.0
LEASE_SECONDS = LEASE_MS / 1000


class Stop(threading.Event):
    """Set when a run must end; also, without anybody having set it, when its lease is over.

    A process that was frozen for minutes asks this before it writes, earlier than its keeper gets to look.
    """

    def __init__(self, good_until: float) -> None:
        super().__init__()
        self.good_until = good_until

    def is_set(self) -> bool:
        return super().is_set() or since_boot() >= self.good_until


class Held:
    """A run in hand. `stop` is set when it has to end: `lost` to somebody else, or out of `seconds`."""

    def __init__(self, db: Db, run: Run, began: float, seconds: float) -> None:
        self.db = db
        self.run = run
        #: By the clock of leases, counted from before the database was asked.
        self.stop = Stop(began + LEASE_SECONDS)
        self.lost = False
        self.out_of_time = False
        self.seconds = seconds
        self._began = self._renewed = began

    def look(self, now: float) -> None:
        """Renew it when it is time; tell it to stop when it must."""
        if now - self._began >= self.seconds and not self.stop.is_set():
            self.out_of_time = True
            self.stop.set()
        if now - self._renewed < RENEW_SECONDS or self.lost:
            return
        try:
            if renew(self.db, self.run, self.db.now_ms()):
                self._renewed, self.stop.good_until = now, now + LEASE_SECONDS
                return
        except Exception as error:  # the database is away; the lease is good for a while yet
            warn("a run could not be renewed", user=self.run.user_id, reason=f"{type(error).__name__}: {error}")
            _hang_up(self.db)
            if now < self.stop.good_until:
                return
        self.lost = True
        self.stop.set()


class RunKeeper:
    """Its thread lives while there is a run to keep, so every process may have one."""

    def __init__(self) -> None:
        self._held: list[Held] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keeping(self, db: Db, run: Run, began: float, seconds: float) -> Iterator[Held]:
        """Keep a run that was started at `began` (clock of leases), and stop it after `seconds`."""
        held = Held(db, run, began, seconds)
        with self._lock:
            self._held.append(held)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="run-keeper", daemon=True)
                self._thread.start()
        try:
            yield held
        finally:
            with self._lock:
                self._held.remove(held)

    def _keep(self) -> None:
        pause, used = threading.Event(), set[Db]()
        while True:
            pause.wait(LOOK_SECONDS)
            with self._lock:
                held = list(self._held)
                if not held:
                    self._thread = None
                    break
            for one in held:
                used.add(one.db)
                one.look(since_boot())
        for db in used:
            _hang_up(db)


def _hang_up(db: Db) -> None:
    try:
        db.close()
    except Exception as error:  # a connection that cannot even be closed is gone
        warn("a lost connection was left", reason=str(error))


keeper = RunKeeper()
