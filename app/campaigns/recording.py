"""Bring the outcomes of a lease into the database, however long that takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from app.campaigns.batches import AT_ONCE, Lease
from app.campaigns.mails import Mail
from app.campaigns.outcomes import Outcome, write_outcomes
from app.campaigns.retry import due_at
from app.campaigns.station import DATABASE_RETRY_SECONDS
from app.clock import since_boot
from app.db import Db
from app.db.connection import DatabaseTrouble
from app.events import warn
from app.models.states import RecipientState


def record(
    db: Db,
    lease: Lease,
    mails: Sequence[Mail],
    outcomes: Sequence[Outcome],
    free_at: int | None,
    *,
    waits: Sequence[float],
    stop: threading.Event,
) -> None:
    """End a lease with its outcomes, trying again until the database has them.

    `waits`: the waiting times after each try (`app/campaigns/retry.py`). Gives up only when this worker stops
    and the lease has run out: the journal has them all, and the sweep will bring them in. Raises DatabaseTrouble then.
    """
    while True:
        try:
            now = db.now_ms()
            write_outcomes(
                db, lease.campaign_id, lease.number, lease.token, outcomes,
                now=now, ready_at=ready_at(mails, outcomes, free_at, waits), refund=lease.refund(len(outcomes)),
            )  # fmt: skip
            return
        except DatabaseTrouble as error:
            warn("outcomes could not be written; they stay in the journal", batch=lease.number, reason=str(error))
            db.close()
            if stop.is_set() and since_boot() > lease.deadline:
                raise
            time.sleep(DATABASE_RETRY_SECONDS)


def ready_at(mails: Sequence[Mail], outcomes: Sequence[Outcome], free_at: int | None, waits: Sequence[float]) -> int:
    """When something of the batch may be sent again, in ms."""
    if len(outcomes) == len(mails) and all(o.state is not RecipientState.PENDING for o in outcomes):
        return AT_ONCE
    decided = {o.subscriber_id: o for o in outcomes}
    times = []
    for mail in mails:
        outcome = decided.get(mail.subscriber_id)
        if outcome is None:
            times.append(max(free_at or AT_ONCE, due_at(mail.attempts, mail.tried_at, waits)))
        elif outcome.state is RecipientState.PENDING:
            times.append(due_at(mail.attempts + 1, outcome.tried_at, waits))
    return min(times, default=AT_ONCE)
