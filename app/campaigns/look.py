"""One look at a campaign and at those who work on it; the same for `check-campaign`, `monitor-campaign` and HTTP.

The database first, then Redis and the workers, if they answer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import redis

from app.campaigns.boosts import queue_of
from app.campaigns.lifecycle import find_campaign
from app.campaigns.progress import Progress, progress_of
from app.db import Db
from app.models.states import CAMPAIGN_ENDED, CampaignStatus
from app.queues.broker import NAMESPACE, RedisTrouble
from app.queues.workers import WorkerStatus, live_workers

QUEUE = "send"
EXPAND = "expand"


@dataclass(frozen=True)
class Look:
    """`queue`: tickets that wait; `workers`: processes serving the campaign. None: Redis does not answer.

    `in_trouble`: those of the workers that say so, with what keeps them from working; `expanders_in_trouble`:
    while the campaign is being expanded, those of the workers that may do that.
    """

    progress: Progress
    queue: int | None
    workers: int | None
    in_trouble: list[WorkerStatus] = field(default_factory=list)
    expanders_in_trouble: list[WorkerStatus] = field(default_factory=list)

    @property
    def blocked_by(self) -> str | None:
        """Why nothing of the campaign can move just now: its own reason, or that of every worker."""
        p = self.progress
        if p.blocked_by or p.status != CampaignStatus.SENDING:
            return p.blocked_by
        if self.in_trouble and len(self.in_trouble) == self.workers:
            return told(self.in_trouble[0])
        # Nobody can send what is not there.
        if self.expanders_in_trouble and not p.pending and not p.sending:
            return told(self.expanders_in_trouble[0])
        return None

    @property
    def troubles(self) -> list[WorkerStatus]:
        """All workers of the campaign that are in trouble, each once."""
        if self.progress.status != CampaignStatus.SENDING:
            return []
        return [*self.in_trouble, *(one for one in self.expanders_in_trouble if one not in self.in_trouble)]

    @property
    def ended(self) -> bool:
        return self.progress.status in CAMPAIGN_ENDED

    @property
    def idle_for_lack_of_workers(self) -> bool:
        return self.workers == 0 and self.progress.status == CampaignStatus.SENDING

    def document(self) -> dict[str, object]:
        """What scripts read."""
        document = progress_document(self.progress)
        return {**document, "blocked_by": self.blocked_by, "queue": self.queue, "workers": self.workers}


def progress_document(progress: Progress) -> dict[str, object]:
    """What scripts read of a campaign without its queue and workers."""
    fields = asdict(progress)
    return {"id": fields.pop("campaign_id"), **fields}


def look_at(db: Db, client: redis.Redis, campaign_id: int) -> Look:
    """One look; raises NotFound."""
    progress = progress_of(db, find_campaign(campaign_id), db.now_ms())
    serving = {QUEUE, queue_of(campaign_id)}
    try:
        everyone = live_workers(client)
        queue = int(client.llen(f"{NAMESPACE}:{QUEUE}"))
    except RedisTrouble:
        return Look(progress, None, None)
    workers = [status for status in everyone if not serving.isdisjoint(status.queues)]
    expanders = [status for status in everyone if EXPAND in status.queues] if progress.expanding else []
    return Look(progress, queue, len(workers), _in_trouble(workers), _in_trouble(expanders))


def _in_trouble(workers: list[WorkerStatus]) -> list[WorkerStatus]:
    return [status for status in workers if status.trouble]


def told(worker: WorkerStatus) -> str:
    """A worker's trouble as people read it."""
    return f"worker {worker.program} on {worker.host}: {worker.trouble}"
