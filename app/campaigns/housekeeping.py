"""What every sending or expanding worker does beside its tasks: tickets in time, and the sweep."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from app.campaigns.sweep import sweep
from app.config import Settings
from app.db import Db
from app.errors import Unavailable
from app.events import warn
from app.models.states import BatchState, CampaignStatus

TICK_SECONDS = 1.0
SWEEP_SECONDS = 10.0


def ready_batches(db: Db, now: int, limit: int, only: int | None = None) -> int:
    """Batches of sending campaigns (or of `only` that one) that may be leased now, counted up to `limit`."""
    which, ids = ("", []) if only is None else (" AND c.id = ?", [only])
    return len(
        db.rows(
            "SELECT 1 FROM campaigns c JOIN batches b ON b.campaign_id = c.id AND b.state = ? AND b.ready_at <= ? "
            f"WHERE c.status = ?{which} LIMIT ?",
            BatchState.READY, now, CampaignStatus.SENDING, *ids, limit,
        )
    )  # fmt: skip


def next_ready_at(db: Db, now: int, only: int | None = None) -> int | None:
    """The instant (ms) at which the next waiting batch becomes ready; None when none waits. `only` as above."""
    which, ids = ("", []) if only is None else (" AND c.id = ?", [only])
    found = db.value(
        # The first entry of each campaign in the index; a MIN over a join would read all that wait.
        "SELECT MIN(due) FROM (SELECT (SELECT b.ready_at FROM batches b WHERE b.campaign_id = c.id AND b.state = ? "
        "AND b.ready_at > ? ORDER BY b.ready_at LIMIT 1) AS due "
        f"FROM campaigns c WHERE c.status = ?{which}) AS firsts",
        BatchState.READY, now, CampaignStatus.SENDING, *ids,
    )  # fmt: skip
    return None if found is None else int(found)


class Housekeeper:
    """Runs on a thread and a database connection of its own. `capacity()`: tickets wanted at most.

    In a worker of one campaign, `only` is that campaign, and `look_after(db)` is called each round.
    """

    def __init__(
        self,
        database: Callable[[], Db],
        settings: Settings,
        *,
        top_up: Callable[[int], object],
        capacity: Callable[[], int],
        restart_expansion: Callable[[int], object],
        close_idle: Callable[[], object],
        only: int | None = None,
        look_after: Callable[[Db], object] = lambda _: None,
        tell: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._top_up = top_up
        self._capacity = capacity
        self._restart_expansion = restart_expansion
        self._close_idle = close_idle
        self._only = only
        self._look_after = look_after
        self._tell = tell
        self._next_sweep = 0.0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._closed.wait(pause):
            try:
                pause = self.step(time.monotonic())
                self._tell("")
            except Exception as error:  # without this thread nothing would be swept; the next round may do better
                reason = f"{type(error).__name__}: {error}"
                warn("housekeeping put off", reason=reason)
                self._tell(reason)
                self._hang_up()
                pause = TICK_SECONDS
        self._hang_up()

    def _hang_up(self) -> None:
        try:
            self._database().close()
        except Unavailable:
            pass  # there is no connection to close

    def step(self, monotonic: float) -> float:
        """One round; how many seconds the next may wait."""
        db = self._database()
        now = db.now_ms()
        if monotonic >= self._next_sweep:
            self._next_sweep = monotonic + SWEEP_SECONDS
            sweep(
                db, self._settings.journals, now, self._settings.lease_seconds, self._restart_expansion,
                self._settings.host_gone_seconds,
            )  # fmt: skip
            self._close_idle()
        used_up = False
        if ready_batches(db, now, 1, self._only):
            capacity = self._capacity()
            ready = ready_batches(db, now, capacity, self._only)
            self._top_up(ready)
            used_up = ready >= capacity
        self._look_after(db)
        if used_up:
            # There is a ticket for everyone who can use one: waking for the next batch would add none.
            return TICK_SECONDS
        due = next_ready_at(db, now, self._only)
        return min(TICK_SECONDS, max(0.02, (due - now) / 1000)) if due is not None else TICK_SECONDS
