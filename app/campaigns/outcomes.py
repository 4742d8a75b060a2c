"""Write what became of a batch: one transaction that begins with the lease's fence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.campaigns.finish import try_finish
from app.db import Db
from app.models.states import BatchState, RecipientState

#: A mail that killed its worker this often while being composed fails with that reason.
MAX_CRASHES = 3
CRASH_REASON = f"composing this mail ended its worker {MAX_CRASHES} times"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one mail. `state` PENDING: tried, and to be tried again later.

    `tried_at` is in ms since 1970 UTC. `attempt`: the recipient's own server-side answer was had,
    so it counts against SEND_MAX_ATTEMPTS. `crashed`: its worker died composing it.
    """

    subscriber_id: int
    state: RecipientState
    server_id: int | None
    reason: str
    tried_at: int
    attempt: bool = True
    crashed: bool = False


def write_outcomes(
    db: Db,
    campaign_id: int,
    number: int,
    token: str,
    outcomes: Sequence[Outcome],
    *,
    now: int,
    ready_at: int,
    settling: bool = False,
) -> bool:
    """Record the outcomes of a lease and end it; False when the lease was no longer there to end.

    What stays pending is ready again at `ready_at`. Called again after a lost answer it changes
    nothing. `settling`: the owner is dead and someone else writes for it; should the owner speak
    after all, only what was settled as `unknown` may still become `sent` or `failed`.
    """
    with db.transaction():
        fenced = db.run(
            "UPDATE batches SET state = ?, journal = NULL, lease_until = NULL, ready_at = ?, settled_token = ? "
            "WHERE campaign_id = ? AND number = ? AND token = ? AND state = ?",
            BatchState.READY, ready_at, token if settling else None, campaign_id, number, token, BatchState.LEASED,
        )  # fmt: skip
        if fenced:
            written = _update_recipients(db, campaign_id, number, outcomes, RecipientState.PENDING)
            _count(db, campaign_id, number, written, RecipientState.PENDING, now)
        elif _was_settled(db, campaign_id, number, token):
            truths = [o for o in outcomes if o.state in (RecipientState.SENT, RecipientState.FAILED)]
            written = _update_recipients(db, campaign_id, number, truths, RecipientState.UNKNOWN)
            _count(db, campaign_id, number, written, RecipientState.UNKNOWN, now)
    if fenced:
        try_finish(db, campaign_id, now)
    return fenced == 1


def _was_settled(db: Db, campaign_id: int, number: int, token: str) -> bool:
    found = db.value(
        "SELECT 1 FROM batches WHERE campaign_id = ? AND number = ? AND settled_token = ?", campaign_id, number, token
    )
    return found is not None


def _update_recipients(
    db: Db, campaign_id: int, number: int, outcomes: Sequence[Outcome], was: RecipientState
) -> Counter[RecipientState]:
    """Update the recipients that are in the state they should be in; how many went where."""
    written: Counter[RecipientState] = Counter()
    by_state: dict[RecipientState, list[Outcome]] = {}
    for outcome in outcomes:
        by_state.setdefault(outcome.state, []).append(outcome)
    for state, group in by_state.items():
        written[state] = db.update_many(
            "recipients",
            f"state = '{state}', attempts = attempts + new_attempt, crashes = crashes + new_crash, "
            "server_id = new_server, reason = new_reason, tried_at = new_time",
            ("id", "new_attempt", "new_crash", "new_server", "new_reason", "new_time"),
            [
                (o.subscriber_id, int(o.attempt), int(o.crashed), o.server_id, o.reason[:500], o.tried_at)
                for o in group
            ],
            "campaign_id = ? AND subscriber_id = id AND batch = ? AND state = ?",
            campaign_id, number, was,
        )  # fmt: skip
    return written


def _count(
    db: Db, campaign_id: int, number: int, written: Counter[RecipientState], was: RecipientState, now: int
) -> None:
    gone = sum(written.values()) - written[was]
    db.run(
        f"UPDATE batches SET {was} = {was} - ?, sent = sent + ?, failed = failed + ?, skipped = skipped + ?"
        + (", unknown = unknown + ?" if was is RecipientState.PENDING else "")
        + " WHERE campaign_id = ? AND number = ?",
        gone, written[RecipientState.SENT], written[RecipientState.FAILED], written[RecipientState.SKIPPED],
        *([written[RecipientState.UNKNOWN]] if was is RecipientState.PENDING else []),
        campaign_id, number,
    )  # fmt: skip
    db.run(
        "UPDATE batches SET state = ?, finished_at = ? WHERE campaign_id = ? AND number = ? AND state = ? "
        "AND pending = 0",
        BatchState.DONE, now, campaign_id, number, BatchState.READY,
    )  # fmt: skip
