"""The sending side of a worker process: its journal, its stations, one ticket at a time."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import lru_cache

from app.campaigns import auto_pause
from app.campaigns.delivery import Delivery
from app.campaigns.finish import give_up, try_finish
from app.campaigns.holds import Holder
from app.campaigns.journal import Journal
from app.campaigns.keeper import LeaseKeeper
from app.campaigns.letter import Letter
from app.campaigns.multiplexer import Multiplexer
from app.campaigns.outcomes import Outcome
from app.campaigns.recording import record
from app.campaigns.retry import backoff
from app.campaigns.station import SLOTS, Loaded, Loader, Station
from app.config import Settings
from app.db import Db
from app.errors import TemplateProblem
from app.events import warn
from app.mail.gate import Gate
from app.models.states import RecipientState
from app.models.tables import Campaign
from app.queues.broker import redis_client

#: How long one ticket may go on leasing batches, in seconds: a message for every batch would cost
#: as much as sending ten mails, and a turn of this length still lets other queues of the worker in.
TICKET_SECONDS = 5.0
#: An unused connection is closed after this, in seconds.
IDLE_SECONDS = 30.0
#: Redis answers within this, in seconds, or servers with limits send nothing for a while.
REDIS_SECONDS = 2.0

Upcoming = Future["Loaded | None"]


class SendService:
    """Works off batches. One per process; `work` may be called by as many threads as it has stations.

    `noticed` is called when a notice was written down, `wake_at` with the instant (ms) at which work that had to stop
    for a limit can go on.
    """

    def __init__(
        self,
        db: Db,
        settings: Settings,
        *,
        threads: int,
        stop: threading.Event,
        noticed: Callable[[], object] = lambda: None,
        wake_at: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._db = db
        self._settings = settings
        self._stop = stop
        self._noticed = noticed
        self._journal = Journal.create(settings.journals, threads * SLOTS)
        self._gate = Gate(db, redis_client(settings.redis_url, REDIS_SECONDS))
        self._holder = Holder(db, self._gate, wake_at)
        self._waits = backoff(settings.retry_minutes)
        self._stations: queue.SimpleQueue[Station] = queue.SimpleQueue()
        for first in range(0, threads * SLOTS, SLOTS):
            self._stations.put(Station(self._journal.slots[first : first + SLOTS], self._gate.slots))
        self._keeper = LeaseKeeper(db, self._journal, settings.lease_seconds)
        self._keeper.start()
        self._loader = Loader(
            db, self._keeper,
            journal=self._journal.name,
            letters=lru_cache(maxsize=64)(self._letter),
            lease_seconds=settings.lease_seconds,
            waits=self._waits,
            prepare=self._gate.prepare,
            stop=stop,
            hand_back=lambda lease: record(db, lease, [], [], None, waits=self._waits, stop=stop),
        )  # fmt: skip
        self._hostname = socket.getfqdn()
        self._multiplexer = Multiplexer(shared=threads > 1)
        self._counting = threading.Lock()
        self.sent = 0

    def campaign_in_hand(self) -> int | None:
        return self._keeper.campaign()

    def work(self, only: int | None = None) -> bool:
        """One ticket: send batches for a while; True when there may be more to do."""
        station = self._stations.get()
        until = time.monotonic() + TICKET_SECONDS
        upcoming: Upcoming | None = None
        recording: Future[None] | None = None
        try:
            upcoming = self._load(station, only)
            while upcoming and (loaded := upcoming.result()):
                upcoming = None
                upcoming, recording = self._carry(station, loaded, only, until, recording)
            return upcoming is None and not self._stop.is_set()
        finally:
            self._abandon(upcoming)
            if recording:
                recording.result()
            station.rest()
            station.used_at = time.monotonic()
            self._stations.put(station)

    def close_idle(self) -> None:
        """Close the connections that have not been used for a while."""
        for _ in range(self._stations.qsize()):
            try:
                station = self._stations.get_nowait()
            except queue.Empty:
                return
            if time.monotonic() - station.used_at > IDLE_SECONDS:
                station.hang_up_all()
            self._stations.put(station)

    def close(self) -> None:
        """End: hang up politely, and remove the journal unless it still holds what the database lacks."""
        self._keeper.close()
        for _ in range(self._stations.qsize()):
            station = self._stations.get()
            station.hang_up_all()
            station.clerk.submit(self._db.close)
            station.clerk.shutdown()
        self._multiplexer.close()
        self._gate.close()
        self._journal.close(remove=all(slot.is_clear for slot in self._journal.slots))

    def _load(self, station: Station, only: int | None) -> Upcoming:
        slot = station.slots[0]
        station.slots.reverse()
        return station.clerk.submit(self._loader.load, slot, only, station.left_alone())

    def _carry(
        self, station: Station, loaded: Loaded, only: int | None, until: float, recording: Future[None] | None
    ) -> tuple[Upcoming | None, Future[None]]:
        """Send a batch; the next one, leased meanwhile unless time is up, and the recording of this one."""
        ahead: list[Upcoming] = []

        def lease_ahead() -> None:
            if not ahead and time.monotonic() < until and not self._stop.is_set():
                ahead.append(self._load(station, only))

        delivery = Delivery(
            self._db, self._gate, self._holder, station, loaded,
            stop=self._stop, hostname=self._hostname, max_attempts=self._settings.send_max_attempts,
            multiplexer=self._multiplexer, near_end=lease_ahead,
        )  # fmt: skip
        try:
            delivery.send()
            lease_ahead()
            if recording:
                recording.result()
        except BaseException:
            self._abandon(ahead[0] if ahead else None)
            self._record(loaded, delivery.outcomes(), delivery.free_at, None)
            raise
        upcoming = ahead[0] if ahead else None
        return upcoming, station.clerk.submit(self._record, loaded, delivery.outcomes(), delivery.free_at, upcoming)

    def _record(self, loaded: Loaded, outcomes: list[Outcome], free_at: int | None, upcoming: Upcoming | None) -> None:
        """Write the outcomes and end the lease. `upcoming` has been worked off by this same clerk before."""
        lease = loaded.lease
        try:
            record(self._db, lease, loaded.mails, outcomes, free_at, waits=self._waits, stop=self._stop)
            loaded.slot.clear()
        except BaseException:
            # Whatever it is, only our death lets the sweep bring these outcomes in from the journal.
            warn("a batch could not be recorded: this worker stops, so that its journal is settled", batch=lease.number)
            self._stop.set()
            raise
        finally:
            self._keeper.let_go(loaded.held)
        self._loader.note(lease, len(outcomes))
        with self._counting:
            self.sent += sum(o.state is RecipientState.SENT for o in outcomes)
        if any(o.state is RecipientState.FAILED for o in outcomes) and auto_pause.after(
            self._db, self._settings, lease.campaign_id, self._db.now_ms()
        ):
            self._noticed()
        following = upcoming.result() if upcoming and not upcoming.exception() else None
        # While more of the same campaign was ready, it cannot have been the last batch.
        if following is None or following.lease.campaign_id != lease.campaign_id:
            try_finish(self._db, lease.campaign_id, self._db.now_ms())

    def _abandon(self, upcoming: Upcoming | None) -> None:
        """Give back a batch that was leased ahead and that an error kept from being sent."""
        if upcoming and not upcoming.exception() and (loaded := upcoming.result()):
            self._record(loaded, [], None, None)

    def _letter(self, campaign_id: int) -> Letter:
        try:
            return Letter(Campaign.get_by_id(campaign_id))
        except TemplateProblem as error:
            # It was compiled when it was scheduled; what changed since, a person has to see.
            give_up(self._db, campaign_id, str(error), self._db.now_ms())
            raise
