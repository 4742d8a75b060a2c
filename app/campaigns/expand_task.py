"""Run an expansion to its end, telling a person what happens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import peewee

from app.campaigns.expansion import Expander, Step, Superseded
from app.campaigns.finish import try_finish
from app.config import Settings
from app.db import Db
from app.db.connection import DatabaseTrouble
from app.db.trouble import first_of, passes_by_itself
from app.events import emit, warn
from app.queues.broker import RedisTrouble

#: Between two tries while the database is in trouble, in seconds.
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0


def expand_campaign(
    db: Db,
    settings: Settings,
    campaign_id: int,
    stop: threading.Event,
    after_commit: Callable[[], object],
    tell: Callable[[str], object] = lambda _: None,
) -> None:
    """Expand from where the cursor stands until done, stopped, superseded or failed.

    `after_commit` is called after every step: new batches are ready, so tickets may be topped up. `tell` is
    given the reason while the database is in trouble, and an empty one when it is not any more.
    Raises what `passes_by_itself` when it comes before the first step or behind the last: whoever is started
    again finds the cursor where it is.
    """
    expander = Expander(
        db, campaign_id, batch_size=settings.expand_batch_size, send_batch_size=settings.send_batch_size
    )
    if not expander.claim(db.now_ms()):
        return
    emit("expansion starts", campaign_id=campaign_id, batch_size=settings.expand_batch_size)
    try:
        while (step := _patient_step(db, expander, campaign_id, stop, tell)) is not None:
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
        if isinstance(error, DatabaseTrouble) and passes_by_itself(error):
            raise
        note_failure(db, expander, campaign_id, error)


def _patient_step(
    db: Db, expander: Expander, campaign_id: int, stop: threading.Event, tell: Callable[[str], object]
) -> Step | None:
    """The next step, tried for as long as the database's trouble lasts; None when this process is to stop.

    Trouble that passes is no failure of the expansion, for failures make it give the campaign up.
    """
    said, pause = "", FIRST_PAUSE
    while not stop.is_set():
        try:
            step = expander.step(db.now_ms())
        except Exception as error:
            if not passes_by_itself(error):
                raise
            reason = f"the database is in trouble: {first_of(error)}"
            if reason != said:
                said = reason
                warn("expansion waits", campaign_id=campaign_id, reason=reason)
            tell(reason)
            _write_down(db, expander, reason)
            # Writing it down may have taken its time, and what is not told again counts as passed.
            tell(reason)
            stop.wait(pause)
            pause = min(LONGEST_PAUSE, pause * 2)
        else:
            if said:
                tell("")
                emit("expansion goes on", campaign_id=campaign_id)
            return step
    return None


def _write_down(db: Db, expander: Expander, reason: str) -> None:
    """Write the reason beside the expansion, if the database takes as much as that."""
    for attempt in (db.close, lambda: expander.wait(reason, db.now_ms()), db.close):
        # Closed before and after: whatever state the connection is in, the next statement opens another.
        with suppress(peewee.DatabaseError, peewee.InterfaceError):
            attempt()


def _tell(after_commit: Callable[[], object], campaign_id: int) -> None:
    """Tickets are the housekeeping's business too: without Redis the expansion goes on."""
    try:
        after_commit()
    except RedisTrouble as error:
        warn("no tickets: Redis does not answer", campaign_id=campaign_id, reason=str(error))


def log_step(campaign_id: int, step: Step) -> None:
    """One line a person can follow."""
    skipped = f", {step.skipped:,} of them skipped" if step.skipped else ""
    emit(
        f"list {step.position}/{step.lists} {step.list_name} batch {step.batch}: "
        f"{step.created:,} created{skipped}, {step.scanned - step.created:,} already there",
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


def note_failure(db: Db, expander: Expander, campaign_id: int, error: Exception) -> None:
    """Record a failed step in the expansion's own state, if the database lets us."""
    reason = f"{type(error).__name__}: {error}"
    warn("expansion step failed", campaign_id=campaign_id, reason=reason)
    try:
        expander.fail(reason, db.now_ms())
    except DatabaseTrouble:
        # The claim runs out by itself, and the sweep starts the expansion again from the cursor.
        pass
