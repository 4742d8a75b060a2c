"""What the console sees of queues, workers and campaigns: one look a second for all who are looking."""

from __future__ import annotations

from dataclasses import dataclass

from app.campaigns.progress import Progress, progress_of_all
from app.errors import Unavailable, UsageError
from app.models.states import CampaignStatus
from app.models.tables import LISTED, Campaign
from app.queues.workers import WorkerStatus
from app.scaling.demand import Seen, look
from app.scaling.table import BOOSTED, Queue, Table, load_table
from app.web.resources import resources

#: Sending campaigns looked at one by one; more of them are only counted.
MOST_SENDING = 20


@dataclass(frozen=True)
class Line:
    """One queue's load; for `send` in recipients. What is not known is None."""

    queue: Queue
    workers: int | None
    busy: int | None
    waiting: int | None
    later: int | None
    in_hand: int | None
    dead: int | None
    oldest_seconds: float | None
    rate_per_second: float | None

    @property
    def behind(self) -> bool:
        return (self.waiting or 0) >= self.queue.backlog_alert

    @property
    def abandoned(self) -> bool:
        """Something waits and nobody is there to do it."""
        return bool(self.waiting) and self.workers == 0


@dataclass(frozen=True)
class Sight:
    """One look. `rate`: mails a second of all sending campaigns together."""

    at: int
    lines: tuple[Line, ...]
    workers: tuple[WorkerStatus, ...] | None
    sending: int
    waiting: int
    rate: float
    troubles: tuple[str, ...]


def sight() -> Sight:
    """The present look, at most a second old. Raises Unavailable when the table of queues cannot be read."""
    found = resources().shared("sight").get(None, _look)
    assert isinstance(found, Sight)
    return found


def sending_now() -> list[Progress]:
    """How far the sending and paused campaigns are, the newest first."""
    db = resources().db
    now = db.now_ms()
    open_ = Campaign.status.in_([CampaignStatus.SENDING, CampaignStatus.PAUSED])
    chosen = (
        Campaign.select(*LISTED).where(open_).order_by(Campaign.status.desc(), Campaign.id.desc()).limit(MOST_SENDING)
    )
    return progress_of_all(db, list(chosen), now)


def table() -> Table:
    """The table of queues and services as it is now; raises Unavailable: a mistake in it is none of the caller's."""
    here = resources()
    try:
        return load_table(here.settings.table_of(here.root))
    except UsageError as error:
        raise Unavailable(str(error)) from error


def _look() -> Sight:
    here = resources()
    read = table()
    seen = look(here.redis, here.db, read)
    recipients = (seen.recipients or {}).values()
    return Sight(
        at=here.db.now_ms(), lines=tuple(_line(seen, queue) for queue in read.queues),
        workers=None if seen.workers is None else tuple(seen.workers),
        sending=len(recipients), waiting=sum(r.due + r.later for r in recipients),
        rate=round(sum(r.rate_per_second for r in recipients), 1), troubles=seen.troubles,
    )  # fmt: skip


def _line(seen: Seen, queue: Queue) -> Line:
    workers = seen.workers_of(queue)
    mine = [seen.depths[name] for name in queue.queues if name in seen.depths] if seen.depths is not None else None
    dead = None if mine is None else sum(depth.dead for depth in mine)
    rate = None if workers is None else round(sum(w.rate_per_second or 0 for w in workers), 1)
    count = None if workers is None else len(workers)
    busy = None if workers is None else sum(w.is_processing for w in workers)
    if BOOSTED in queue.queues:
        if seen.recipients is None:
            return Line(queue, count, busy, None, None, None, dead, None, rate)
        every = seen.recipients.values()
        return Line(
            queue, count, busy,
            sum(r.due for r in every), sum(r.later for r in every), sum(r.leased for r in every), dead,
            max((r.oldest_seconds for r in every if r.oldest_seconds is not None), default=None),
            round(sum(r.rate_per_second for r in every), 1),
        )  # fmt: skip
    if mine is None:
        return Line(queue, count, busy, None, None, None, None, None, rate)
    return Line(
        queue, count, busy,
        sum(d.waiting for d in mine), sum(d.delayed for d in mine), sum(d.in_hand for d in mine), dead,
        max((d.oldest_seconds for d in mine if d.oldest_seconds is not None), default=None), rate,
    )  # fmt: skip
