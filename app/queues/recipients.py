"""What waits to be mailed: recipients of sending campaigns, from the counters of their batches."""

from __future__ import annotations

from dataclasses import dataclass

from app.db import Db
from app.models.states import BatchState, CampaignStatus

#: The speed is that of the last so many ms.
RATE_WINDOW_MS = 10_000


@dataclass(frozen=True)
class Recipients:
    """One sending campaign. `due` may go now, `later` waits for its time, `leased` is in workers' hands, `done` over.

    `oldest_seconds`: how long the longest-waiting due batch has been ready, None when none is due.
    """

    campaign_id: int
    name: str
    due: int
    later: int
    leased: int
    done: int
    oldest_seconds: float | None
    rate_per_second: float


def waiting_recipients(db: Db, now: int) -> dict[int, Recipients]:
    """Every sending campaign by its id, at `now` (ms)."""
    ready = f"b.state = '{BatchState.READY}'"
    rows = db.rows(
        "SELECT c.id, c.name, "
        f"COALESCE(SUM(CASE WHEN {ready} AND b.ready_at <= ? THEN b.pending ELSE 0 END), 0), "
        f"COALESCE(SUM(CASE WHEN {ready} AND b.ready_at > ? THEN b.pending ELSE 0 END), 0), "
        f"COALESCE(SUM(CASE WHEN b.state = '{BatchState.LEASED}' THEN b.pending ELSE 0 END), 0), "
        f"MIN(CASE WHEN {ready} AND b.ready_at <= ? THEN b.ready_at END), "
        "COALESCE(SUM(CASE WHEN b.finished_at >= ? THEN b.sent + b.failed ELSE 0 END), 0), c.started_at, "
        "COALESCE(SUM(b.sent + b.failed + b.skipped + b.unknown), 0) "
        "FROM campaigns c LEFT JOIN batches b ON b.campaign_id = c.id WHERE c.status = ? "
        "GROUP BY c.id, c.name, c.started_at ORDER BY c.id",
        now, now, now, now - RATE_WINDOW_MS, CampaignStatus.SENDING,
    )  # fmt: skip
    found = {}
    for id_, name, due, later, leased, ready_at, lately, started, done in rows:
        # A batch that may go at once has 0 there, so it has waited since its campaign began.
        since = None if ready_at is None else max(int(ready_at), int(started or now))
        window = max(1000, min(RATE_WINDOW_MS, now - int(started or now)))
        found[int(id_)] = Recipients(
            campaign_id=int(id_), name=str(name), due=int(due), later=int(later), leased=int(leased),
            done=int(done),
            oldest_seconds=None if since is None else max(0.0, (now - since) / 1000),
            rate_per_second=round(int(lately) * 1000 / window, 1),
        )  # fmt: skip
    return found
