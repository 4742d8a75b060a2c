"""Skip the rest of a cancelled campaign: a bounded transaction at a time, by whoever comes by.

The command that cancels begins, the sweep of any worker goes on. Each step leaves rows and counters that
agree, so it may be broken off anywhere, and done by several at once. What a worker still has in hand is
skipped when its lease has ended.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from app.campaigns.outcomes import count_again
from app.db import Db
from app.models.states import BatchState, CampaignStatus, ExpansionState, RecipientState

#: A step ends behind so many recipients or batches, whichever comes first: others wait meanwhile on SQLite.
STEP_RECIPIENTS = 5_000
STEP_BATCHES = 50
#: How long one pass of a sweep goes on with this, in seconds.
PASS_SECONDS = 1.0


def skip_rest(db: Db, campaign_id: int, now: int, seconds: float) -> int:
    """Skip pending recipients of a cancelled campaign until none is left or the time is over; how many.

    At least one step is done. Of a campaign that is not cancelled nothing is touched.
    """
    finished_at = db.value(
        "SELECT finished_at FROM campaigns WHERE id = ? AND status = ?", campaign_id, CampaignStatus.CANCELLED
    )
    if finished_at is None:
        return 0
    _stop_expansion(db, campaign_id, now)
    reason = f"cancelled at {datetime.fromtimestamp(int(finished_at) / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
    deadline, skipped = time.monotonic() + seconds, 0
    while (done := _step(db, campaign_id, reason, now)) is not None:
        skipped += done
        if time.monotonic() > deadline:
            break
    return skipped


def with_rest(db: Db, limit: int) -> list[int]:
    """Cancelled campaigns that still have something to skip, or an expansion to be stopped."""
    rows = db.rows(
        "SELECT c.id FROM campaigns c WHERE c.status = ? "
        "AND (EXISTS (SELECT 1 FROM batches b WHERE b.campaign_id = c.id AND b.state = ?) "
        "OR EXISTS (SELECT 1 FROM expansions e WHERE e.campaign_id = c.id AND e.state = ?)) LIMIT ?",
        CampaignStatus.CANCELLED, BatchState.READY, ExpansionState.RUNNING, limit,
    )  # fmt: skip
    return [int(campaign_id) for (campaign_id,) in rows]


def left_to_skip(db: Db, campaign_id: int) -> int:
    """Pending recipients that nobody has in hand."""
    return int(
        db.value(
            "SELECT COALESCE(SUM(pending), 0) FROM batches WHERE campaign_id = ? AND state = ?",
            campaign_id, BatchState.READY,
        )
    )  # fmt: skip


def _stop_expansion(db: Db, campaign_id: int, now: int) -> None:
    # A step in hand commits before this or finds its claim gone: no recipient is added afterwards.
    db.run(
        "UPDATE expansions SET state = ?, token = NULL, lease_until = 0, updated_at = ? "
        "WHERE campaign_id = ? AND state = ?",
        ExpansionState.STOPPED, now, campaign_id, ExpansionState.RUNNING,
    )  # fmt: skip


def _step(db: Db, campaign_id: int, reason: str, now: int) -> int | None:
    """Skip the recipients of some batches, one transaction; how many, None when no batch is left for us."""
    with db.transaction():
        # Those that another is skipping at this moment are passed over.
        rows = db.rows(
            f"SELECT number, pending FROM batches WHERE campaign_id = ? AND state = ? LIMIT ?{db.skip_locked}",
            campaign_id, BatchState.READY, STEP_BATCHES,
        )  # fmt: skip
        skipped = 0
        for number, pending in rows:
            skipped += _skip_batch(db, campaign_id, int(number), int(pending), reason, now)
            if skipped >= STEP_RECIPIENTS:
                break
    return skipped if rows else None


def _skip_batch(db: Db, campaign_id: int, number: int, pending: int, reason: str, now: int) -> int:
    # `pending` is set last: MySQL computes an assignment from the values that those before it made.
    mine = db.run(
        "UPDATE batches SET state = ?, finished_at = ?, skipped = skipped + pending, pending = 0 "
        "WHERE campaign_id = ? AND number = ? AND state = ?",
        BatchState.DONE, now, campaign_id, number, BatchState.READY,
    )  # fmt: skip
    if not mine:
        return 0
    skipped = db.run(
        f"UPDATE recipients{db.by_batch} SET state = ?, reason = ? WHERE campaign_id = ? AND batch = ? AND state = ?",
        RecipientState.SKIPPED, reason, campaign_id, number, RecipientState.PENDING,
    )  # fmt: skip
    if skipped != pending:
        count_again(db, campaign_id, number, now)
    return skipped
