"""Counts campaigns by recipient domain for all who look: on a thread of its own, a fifth of the time at most."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from app.campaigns.domain_shares import DomainCount, DomainShares
from app.db import Db
from app.db.connection import DatabaseTrouble
from app.events import warn

#: Campaigns remembered; those not asked for longest go first.
MOST_KEPT = 8
#: One turn of counting, and so many times as long it rests, both in seconds.
TURN_SECONDS, REST = 1.0, 4
LEAST_REST_SECONDS = 2.0


@dataclass
class _Entry:
    count: DomainCount
    ended: threading.Event = field(default_factory=threading.Event)
    due: float = 0.0

    def __post_init__(self) -> None:
        self.ended.set()


class DomainBoard:
    """One for each web service."""

    def __init__(self, db: Db) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._one_at_a_time = threading.Lock()
        self._kept: OrderedDict[int, _Entry] = OrderedDict()

    def look(self, campaign_id: int, wait: float) -> DomainShares:
        """What is known; whoever is the first waits so many seconds for the rest."""
        with self._lock:
            entry = self._kept.setdefault(campaign_id, _Entry(DomainCount(campaign_id)))
            self._kept.move_to_end(campaign_id)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            if entry.ended.is_set() and time.monotonic() >= entry.due:
                entry.ended.clear()
                threading.Thread(target=self._turn, args=(entry,), name="domain-count", daemon=True).start()
        if not entry.count.seen.is_complete or not entry.count.seen.counted:
            entry.ended.wait(wait)
        return entry.count.seen

    def _turn(self, entry: _Entry) -> None:
        begun = time.monotonic()
        try:
            # Several campaigns that are watched share the time of one.
            with self._one_at_a_time:
                begun = time.monotonic()
                entry.count.step(self._db, TURN_SECONDS)
        except DatabaseTrouble as error:
            warn("a campaign could not be counted by domain", reason=str(error))
        finally:
            self._db.close()
            now = time.monotonic()
            entry.due = now + max(LEAST_REST_SECONDS, REST * (now - begun))
            entry.ended.set()
