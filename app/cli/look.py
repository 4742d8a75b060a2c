"""What `check-campaign` and `monitor-campaign` look at: the database first, Redis and workers if they answer."""

from __future__ import annotations

from dataclasses import dataclass

from app.campaigns.lifecycle import find_campaign
from app.campaigns.progress import Progress, progress_of
from app.config import Settings
from app.db import Db
from app.queues.broker import RedisTrouble, make_broker
from app.queues.tickets import waiting
from app.workers.heartbeat import live_workers

QUEUE = "send"


@dataclass(frozen=True)
class Look:
    """`queue`: tickets that wait; `workers`: processes serving the campaign. None: Redis does not answer."""

    progress: Progress
    queue: int | None
    workers: int | None

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
            workers = sum(QUEUE in status.queues for status in live_workers(self._broker.client))
            return Look(progress, waiting(self._broker, QUEUE), workers)
        except RedisTrouble:
            return Look(progress, None, None)
