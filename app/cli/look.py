"""What `check-campaign` and `monitor-campaign` look at: the database first, Redis and workers if they answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.campaigns.boosts import queue_of
from app.campaigns.lifecycle import find_campaign
from app.campaigns.progress import Progress, progress_of
from app.config import Settings
from app.db import Db
from app.queues.broker import RedisTrouble, make_broker
from app.queues.tickets import waiting
from app.workers.heartbeat import WorkerStatus, live_workers

QUEUE = "send"


@dataclass(frozen=True)
class Look:
    """`queue`: tickets that wait; `workers`: processes serving the campaign. None: Redis does not answer.

    `in_trouble`: those of the workers that say so, with what keeps them from working.
    """

    progress: Progress
    queue: int | None
    workers: int | None
    in_trouble: list[WorkerStatus] = field(default_factory=list)

    @property
    def blocked_by(self) -> str | None:
        """Why nothing of the campaign can move just now: its own reason, or that of every worker."""
        if self.progress.blocked_by or not self.in_trouble or self.progress.status != "sending":
            return self.progress.blocked_by
        return told(self.in_trouble[0]) if len(self.in_trouble) == self.workers else None

    @property
    def ended(self) -> bool:
        return self.progress.status in ("sent", "cancelled", "failed")

    @property
    def idle_for_lack_of_workers(self) -> bool:
        return self.workers == 0 and self.progress.status == "sending"


class Watcher:
    """Looks at one campaign again and again."""

    def __init__(self, settings: Settings, db: Db, campaign_id: int) -> None:
        self._db = db
        self._id = campaign_id
        self._broker = make_broker(settings.redis_url)

    def look(self) -> Look:
        """One look; raises NotFound."""
        progress = progress_of(self._db, find_campaign(self._id), self._db.now_ms())
        try:
            serving = {QUEUE, queue_of(self._id)}
            workers = [s for s in live_workers(self._broker.client) if not serving.isdisjoint(s.queues)]
            in_trouble = [status for status in workers if status.trouble]
            return Look(progress, waiting(self._broker, QUEUE), len(workers), in_trouble)
        except RedisTrouble:
            return Look(progress, None, None)


def told(worker: WorkerStatus) -> str:
    """A worker's trouble as people read it."""
    return f"worker {worker.program} on {worker.host}: {worker.trouble}"
