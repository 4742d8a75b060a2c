"""The sending side of a worker process: its journal, its stations, its leases, one ticket at a time."""

from __future__ import annotations

import queue
import socket
import threading
import time
from functools import lru_cache

from app.campaigns.batches import disown, lease_next, new_token
from app.campaigns.delivery import DATABASE_RETRY_SECONDS, Delivery, Station
from app.campaigns.journal import Journal
from app.campaigns.keeper import LeaseKeeper
from app.campaigns.letter import Letter
from app.config import Settings
from app.db import Db
from app.db.connection import DatabaseTrouble
from app.models.tables import Campaign

#: How long one ticket may go on leasing batches, in seconds: a message for every batch would cost
#: as much as sending ten mails, and a turn of this length still lets other queues of the worker in.
TICKET_SECONDS = 5.0
#: An unused connection is closed after this, in seconds.
IDLE_SECONDS = 30.0


class SendService:
    """Works off batches. One per process; `work` may be called by as many threads as it has stations."""

    def __init__(self, db: Db, settings: Settings, *, threads: int, stop: threading.Event) -> None:
        self._db = db
        self._settings = settings
        self._stop = stop
        self._journal = Journal.create(settings.journals, threads)
        self._stations: queue.SimpleQueue[Station] = queue.SimpleQueue()
        for slot in self._journal.slots:
            self._stations.put(Station(slot))
        self._keeper = LeaseKeeper(db, self._journal, settings.lease_seconds)
        self._keeper.start()
        self._hostname = socket.getfqdn()
        self._letter = lru_cache(maxsize=64)(lambda campaign_id: Letter(Campaign.get_by_id(campaign_id)))
        self._counting = threading.Lock()
        self.sent = 0

    def work(self, only: int | None = None) -> bool:
        """One ticket: send batches for a while; True when there may be more to do."""
        station = self._stations.get()
        until = time.monotonic() + TICKET_SECONDS
        try:
            while not self._stop.is_set() and time.monotonic() < until:
                if not self._next(station, only):
                    return False
            return True
        finally:
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
                station.close()
            self._stations.put(station)

    def close(self) -> None:
        """End: hang up politely, and remove the journal unless it still holds what the database lacks."""
        self._keeper.close()
        for _ in range(self._stations.qsize()):
            self._stations.get().close()
        self._journal.close(remove=all(slot.is_clear for slot in self._journal.slots))

    def _next(self, station: Station, only: int | None) -> bool:
        """Lease and send one batch; False when there is nothing to send now."""
        token = new_token()
        station.slot.open(token)
        try:
            lease = lease_next(
                self._db, token=token, journal=self._journal.name, only=only, now=self._db.now_ms(),
                monotonic=time.monotonic(), lease_seconds=self._settings.lease_seconds,
            )  # fmt: skip
        except DatabaseTrouble:
            self._disown(token)
            raise
        if lease is None:
            station.slot.clear()
            return False
        held = self._keeper.hold(lease)
        try:
            sent = Delivery(
                self._db, station, held,
                stop=self._stop, hostname=self._hostname, max_attempts=self._settings.send_max_attempts,
                letters=self._letter,
            ).carry()  # fmt: skip
        finally:
            self._keeper.let_go(held)
        with self._counting:
            self.sent += sent
        return True

    def _disown(self, token: str) -> None:
        """The answer to a lease was lost: it may have been given, and nobody else would take it back."""
        while not self._stop.is_set():
            try:
                self._db.close()
                disown(self._db, token, self._db.now_ms())
                return
            except DatabaseTrouble:
                self._stop.wait(DATABASE_RETRY_SECONDS)
