"""Run an expansion to its end, telling a person what happens."""

from __future__ import annotations

import threading
from collections.abc import Callable

from app.campaigns.expansion import Expander, Step, Superseded
from app.campaigns.finish import try_finish
from app.config import Settings
from app.db import Db
from app.db.connection import DatabaseTrouble
from app.events import emit, warn
from app.queues.broker import RedisTrouble


def expand_campaign(
    db: Db, settings: Settings, campaign_id: int, stop: threading.Event, after_commit: Callable[[], object]
) -> None:
    """Expand from where the cursor stands until done, stopped, superseded or failed.

    `after_commit` is called after every step: new batches are ready, so tickets may be topped up.
    """
    expander = Expander(
        db, campaign_id, batch_size=settings.expand_batch_size, send_batch_size=settings.send_batch_size
    )
    if not expander.claim(db.now_ms()):
        return
    emit("expansion starts", campaign_id=campaign_id, batch_size=settings.expand_batch_size)
    try:
        while not stop.is_set():
            step = expander.step(db.now_ms())
            _tell(after_commit, campaign_id)
            if step.all_done:
                log_totals(db, campaign_id, "send")
                try_finish(db, campaign_id, db.now_ms())
                return
            log_step(campaign_id, step)
        expander.release(db.now_ms())
        emit("expansion handed back", campaign_id=campaign_id)
    except Superseded as error:
        warn("expansion superseded", campaign_id=campaign_id, reason=str(error))
    except Exception as error:  # whatever it is, it is written down beside the campaign
        note_failure(expander, campaign_id, error, db.now_ms())


def _tell(after_commit: Callable[[], object], campaign_id: int) -> None:
    """Tickets are the housekeeping's business too: without Redis the expansion goes on."""
    try:
        after_commit()
    except RedisTrouble as error:
        warn("no tickets: Redis does not answer", campaign_id=campaign_id, reason=str(error))


def log_step(campaign_id: int, step: Step) -> None:
    """One line a person can follow."""
    emit(
        f"list {step.position}/{step.lists} {step.list_name} batch {step.batch}: "
        f"{step.created:,} created, {step.scanned - step.created:,} already there",
        campaign_id=campaign_id,
    )


def log_totals(db: Db, campaign_id: int, queue: str) -> None:
    """The totals per list and of the campaign, when its expansion is done."""
    rows = db.rows(
        "SELECT c.position, l.name, c.scanned, c.created FROM campaign_lists c JOIN lists l ON l.id = c.list_id "
        "WHERE c.campaign_id = ? ORDER BY c.position",
        campaign_id,
    )
    for number, (_, name, scanned, created) in enumerate(rows, 1):
        emit(
            f"list {number}/{len(rows)} {name} total: {scanned:,} members, {created:,} created, "
            f"{scanned - created:,} already there",
            campaign_id=campaign_id,
        )
    recipients = sum(int(row[3]) for row in rows)
    duplicates = sum(int(row[2]) for row in rows) - recipients
    emit(
        f"expansion done: {recipients:,} recipients, {duplicates:,} duplicates",
        campaign_id=campaign_id,
        queue=queue,
    )


def note_failure(expander: Expander, campaign_id: int, error: Exception, now: int) -> None:
    """Record a failed step in the expansion's own state, if the database lets us."""
    reason = f"{type(error).__name__}: {error}"
    warn("expansion step failed", campaign_id=campaign_id, reason=reason)
    try:
        expander.fail(reason, now)
    except DatabaseTrouble:
        # The claim runs out by itself, and the sweep starts the expansion again from the cursor.
        pass
