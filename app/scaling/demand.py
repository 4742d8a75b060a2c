"""What the queues need now: one look at Redis and the database, read by every queue."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import redis

from app.db import Db
from app.db.connection import DatabaseTrouble
from app.models.states import CampaignStatus
from app.queues.broker import RedisTrouble
from app.queues.depth import Depth, depths
from app.queues.recipients import Recipients, waiting_recipients
from app.queues.workers import WorkerStatus, live_workers
from app.scaling.policy import Demand
from app.scaling.table import BOOSTED, Queue, Table


@dataclass(frozen=True)
class Seen:
    """One look. What could not be asked is None, and why stands in `troubles`."""

    depths: dict[str, Depth] | None
    workers: list[WorkerStatus] | None
    recipients: dict[int, Recipients] | None
    boosts: dict[int, int] | None
    troubles: tuple[str, ...]

    @property
    def busy(self) -> frozenset[int] | None:
        """Pids on this host that have a task in hand; None when nobody knows."""
        return None if self.workers is None else busy_pids(self.workers)

    def resident(self, pid: int) -> float:
        """Memory that a worker of this host said it holds, in MB; 0 for one that has not said anything yet."""
        return next((w.rss_mb for w in self.workers or () if w.pid == pid and w.host == _HOST), 0.0)

    def elsewhere(self, queue: Queue) -> int:
        """Workers of a queue on other hosts."""
        return sum(w.host != _HOST for w in self.workers_of(queue) or ())

    def workers_of(self, queue: Queue) -> list[WorkerStatus] | None:
        """The workers of a queue on all hosts; None when nobody knows."""
        if self.workers is None:
            return None
        return [w for w in self.workers if set(queue.queues) & set(w.queues)]

    def demand(self, queue: Queue, rate: float | None = None) -> Demand | None:
        """What a queue needs; None when that cannot be known now. `rate`: what its workers end a second."""
        workers = self.workers_of(queue)
        if workers is None:
            return None
        busy = sum(w.is_processing for w in workers)
        if BOOSTED in queue.queues:
            return self._recipients(rate, busy)
        return self._messages(queue, rate, busy)

    def _messages(self, queue: Queue, rate: float | None, busy: int) -> Demand | None:
        if self.depths is None:
            return None
        mine = [self.depths[name] for name in queue.queues if name in self.depths]
        ages = [depth.oldest_seconds for depth in mine if depth.oldest_seconds is not None]
        return Demand(
            backlog=sum(depth.waiting for depth in mine), in_flight=sum(depth.in_hand for depth in mine),
            oldest_seconds=max(ages, default=None), rate=rate, busy=busy,
        )  # fmt: skip

    def _recipients(self, rate: float | None, busy: int) -> Demand | None:
        """Recipients, never tickets; a campaign with workers of its own asks nothing of the others."""
        if self.recipients is None or self.boosts is None:
            return None
        mine = [r for r in self.recipients.values() if r.campaign_id not in self.boosts]
        ages = [r.oldest_seconds for r in mine if r.oldest_seconds is not None]
        return Demand(
            backlog=sum(r.due for r in mine), in_flight=sum(r.leased for r in mine),
            oldest_seconds=max(ages, default=None), rate=rate, busy=busy,
        )  # fmt: skip


_HOST = socket.gethostname()


def look(client: redis.Redis, db: Db, table: Table) -> Seen:
    """Ask Redis and the database; neither's absence is an error here."""
    troubles: list[str] = []
    counted, workers, recipients, boosts = None, None, None, None
    try:
        counted = depths(client, {name for queue in table.queues for name in queue.queues})
        workers = live_workers(client)
    except RedisTrouble as error:
        counted = None
        troubles.append(f"Redis does not answer: {error}")
    try:
        recipients = waiting_recipients(db, db.now_ms())
        boosts = wanted_boosts(db)
    except DatabaseTrouble as error:
        db.close()
        recipients = None
        troubles.append(f"the database does not answer: {error}")
    return Seen(counted, workers, recipients, boosts, tuple(troubles))


def busy_pids(workers: list[WorkerStatus]) -> frozenset[int]:
    """The pids of those on this host that have a task in hand."""
    return frozenset(w.pid for w in workers if w.is_processing and w.host == _HOST)


def busy_now(client: redis.Redis) -> frozenset[int] | None:
    """The pids on this host that have a task in hand; None when Redis does not answer."""
    try:
        return busy_pids(live_workers(client))
    except RedisTrouble:
        return None


def wanted_boosts(db: Db) -> dict[int, int]:
    """Workers of its own that each sending campaign is to have."""
    rows = db.rows("SELECT id, boost FROM campaigns WHERE status = ? AND boost > 0", CampaignStatus.SENDING)
    return {int(id_): int(workers) for id_, workers in rows}
