"""What every sending or expanding worker does beside its tasks: tickets in time, and the sweep."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable

from app.campaigns.sweep import sweep
from app.campaigns.turns import MAY_LEASE, SENDER_MAY
from app.config import Settings
from app.db import Db
from app.errors import Unavailable
from app.events import warn
from app.models.states import BatchState, CampaignStatus

TICK_SECONDS = 1.0
SWEEP_SECONDS = 10.0
#: When a hold is over, everybody looks so much later, in ms, whether it is held again.
HOLD_GRACE_MS = 50
#: Later than this, in seconds, nobody needs to be woken to the millisecond.
FAR_SECONDS = 90.0


def ready_batches(db: Db, now: int, limit: int, only: int | None = None) -> int:
    """Batches of all campaigns (or of `only` that one) that may be leased now, counted up to `limit`."""
    which, ids = ("", []) if only is None else (" AND c.id = ?", [only])
    return len(
        db.rows(
            "SELECT 1 FROM campaigns c JOIN batches b ON b.campaign_id = c.id AND b.state = ? AND b.ready_at <= ? "
            f"WHERE {MAY_LEASE}{which} LIMIT ?",
            BatchState.READY, now, CampaignStatus.SENDING, now, *ids, limit,
        )
    )  # fmt: skip


def next_ready_at(db: Db, now: int, only: int | None = None) -> int | None:
    """The instant (ms) from which on more may be leased than now; None when nothing waits. `only` as above.

    That is when the next batch becomes ready, or shortly after a campaign that has one is no longer held: whoever
    held it has a ticket issued at that very moment.
    """
    which, ids = ("", []) if only is None else (" AND c.id = ?", [only])
    # The first entry of each campaign in the index; a MIN over a join would read all that wait.
    first = "FROM batches b WHERE b.campaign_id = c.id AND b.state = ?"
    found = db.value(
        "SELECT MIN(due) FROM (SELECT CASE WHEN c.held_until > ? "
        "THEN (SELECT CASE WHEN b.ready_at > c.held_until + ? THEN b.ready_at ELSE c.held_until + ? END "
        f"{first} ORDER BY b.ready_at LIMIT 1) "
        f"ELSE (SELECT b.ready_at {first} AND b.ready_at > ? ORDER BY b.ready_at LIMIT 1) END AS due "
        f"FROM campaigns c WHERE c.status = ? AND {SENDER_MAY}{which}) AS firsts",
        now, HOLD_GRACE_MS, HOLD_GRACE_MS, BatchState.READY, BatchState.READY, now, CampaignStatus.SENDING, *ids,
    )  # fmt: skip
    return None if found is None else int(found)


class Housekeeper:
    """Runs on a thread and a database connection of its own. `capacity()`: tickets wanted at most.

    Who knows when there will be work again tells it (`wake_at`), and then it issues as many tickets as were asked
    for, to the millisecond: by a limit of so many mails a second, a hundredth of a second late is a hundredth lost.
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
        self._next_round = 0.0
        self._wakes: list[float] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def wake_at(self, at: int) -> None:
        """Issue a ticket at an instant (ms by the database's clock): there will be work again. For any thread."""
        # A millisecond more: the clock that is asked then may be read anew, and a ticket too early finds nothing.
        seconds = max(0.0, (at + 1 - self._database().now_ms()) / 1000)
        if seconds > FAR_SECONDS:
            return  # the rounds see to that
        with self._changed:
            heapq.heappush(self._wakes, time.monotonic() + seconds)
            self._changed.notify_all()

    def _wait(self, seconds: float) -> bool:
        """Wait, but not past the next wake; False when it is to end."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._closed:
                next_at = min(until, self._wakes[0]) if self._wakes else until
                if (left := next_at - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            return not self._closed

    def _woken(self, monotonic: float) -> int:
        """How many tickets were asked for until now."""
        count = 0
        with self._changed:
            while self._wakes and self._wakes[0] <= monotonic:
                heapq.heappop(self._wakes)
                count += 1
        return count

    def _run(self) -> None:
        pause = 0.0
        while self._wait(pause):
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
        woken = self._woken(monotonic)
        if woken and monotonic < self._next_round:
            # As many as had work until their campaigns were held; at the next round everybody who could.
            # Nothing is looked at before: a ticket too many finds nothing, and each look is time lost.
            self._top_up(woken)
            return self._next_round - monotonic
        db = self._database()
        now = db.now_ms()
        if monotonic >= self._next_sweep:
            self._next_sweep = monotonic + SWEEP_SECONDS
            sweep(
                db, self._settings.journals, now, self._settings.lease_seconds, self._restart_expansion,
                self._settings.host_gone_seconds,
            )  # fmt: skip
            self._close_idle()
        pause = self._round(db, now)
        self._next_round = monotonic + pause
        return pause

    def _round(self, db: Db, now: int) -> float:
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
