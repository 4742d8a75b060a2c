"""Write what became of a batch: one transaction that begins with the lease's fence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.campaigns.bounces import forget_bounces, is_refusal, note_bounces
from app.campaigns.deliveries import count_attempts
from app.campaigns.turns import correct_turn
from app.db import Db
from app.models.counters import Counted, count
from app.models.states import BatchState, RecipientState

#: A mail that killed its worker this often while being composed fails with that reason.
MAX_CRASHES = 3
CRASH_REASON = f"composing this mail ended its worker {MAX_CRASHES} times"


_GIVEN = {
    "id": "BIGINT", "new_attempt": "INT", "new_crash": "INT", "new_server": "BIGINT",
    "new_reason": "VARCHAR(500)", "new_time": "BIGINT",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one mail. `state` PENDING: tried, and to be tried again later.

    `tried_at` is in ms since 1970 UTC. `attempt`: the recipient's own server-side answer was had,
    so it counts against SEND_MAX_ATTEMPTS. `crashed`: its worker died composing it. `recovered`: accepted,
    of a subscriber whose mails had been refused.
    """

    subscriber_id: int
    state: RecipientState
    server_id: int | None
    reason: str
    tried_at: int
    attempt: bool = True
    crashed: bool = False
    recovered: bool = False


def write_outcomes(
    db: Db,
    campaign_id: int,
    number: int,
    token: str,
    outcomes: Sequence[Outcome],
    *,
    now: int,
    ready_at: int,
    refund: float = 0.0,
    settling: bool = False,
) -> bool:
    """Record the outcomes of a lease and end it; False when the lease was no longer there to end.

    What stays pending is ready again at `ready_at`, and `refund` is taken off the campaign's turn for it.
    Called again after a lost answer it changes nothing. `settling`: the owner is dead and someone else writes
    for it; should the owner speak after all, only what was settled as `unknown` may still become `sent` or `failed`.
    """
    with db.transaction():
        fenced = _end_lease(db, campaign_id, number, token, outcomes, now, ready_at, settling)
        if fenced:
            written = _update_recipients(db, campaign_id, number, outcomes, RecipientState.PENDING)
            if written != len(outcomes):
                count_again(db, campaign_id, number, now)
            _count_bounces(db, outcomes, settling)
            if refund:
                correct_turn(db, campaign_id, refund, now)
            count_attempts(db, campaign_id, outcomes, now)
            if settling:
                _count_recovery(db, outcomes)
        else:
            correct_unknown(db, campaign_id, number, token, outcomes, now)
    return fenced


def correct_unknown(db: Db, campaign_id: int, number: int, token: str, outcomes: Sequence[Outcome], now: int) -> bool:
    """Let the owner of a lease that was settled by someone else speak: its `unknown` become `sent` or `failed`.

    False when nobody settled that lease, or what became of it has been decided since.
    """
    with db.transaction():
        if not _was_settled(db, campaign_id, number, token):
            return False
        truths = [o for o in outcomes if o.state in (RecipientState.SENT, RecipientState.FAILED)]
        others = [o for o in truths if not _is_bounce(o)]
        _update_recipients(db, campaign_id, number, others, RecipientState.UNKNOWN)
        # One by one: a refusal that is known already is not counted again.
        new = [
            o
            for o in truths
            if _is_bounce(o) and _update_recipients(db, campaign_id, number, [o], RecipientState.UNKNOWN)
        ]
        _count_bounces(db, [*others, *new], settling=True)
        count_again(db, campaign_id, number, now)
    return True


def _count_recovery(db: Db, outcomes: Sequence[Outcome]) -> None:
    unknown = sum(o.state is RecipientState.UNKNOWN for o in outcomes)
    count(db, Counted.LEASES_RECOVERED, {"": 1})
    count(db, Counted.MAILS_RECOVERED, {"recorded": len(outcomes) - unknown, "unknown": unknown})


def _end_lease(
    db: Db,
    campaign_id: int,
    number: int,
    token: str,
    outcomes: Sequence[Outcome],
    now: int,
    ready_at: int,
    settling: bool,
) -> bool:
    """The fence and the counters in one statement: that the outcomes fit the rows is checked afterwards."""
    went = Counter(o.state for o in outcomes)
    decided = len(outcomes) - went[RecipientState.PENDING]
    # `state` stands first: MySQL computes an assignment from the values that those before it made.
    ended = db.run(
        "UPDATE batches SET state = CASE WHEN pending = ? THEN ? ELSE ? END, "
        "finished_at = CASE WHEN pending = ? THEN ? ELSE NULL END, journal = NULL, lease_until = NULL, "
        "ready_at = ?, settled_token = ?, pending = pending - ?, sent = sent + ?, failed = failed + ?, "
        "skipped = skipped + ?, unknown = unknown + ? "
        "WHERE campaign_id = ? AND number = ? AND token = ? AND state = ?",
        decided, BatchState.DONE, BatchState.READY, decided, now, ready_at, token if settling else None,
        decided, went[RecipientState.SENT], went[RecipientState.FAILED], went[RecipientState.SKIPPED],
        went[RecipientState.UNKNOWN], campaign_id, number, token, BatchState.LEASED,
    )  # fmt: skip
    return ended == 1


def _was_settled(db: Db, campaign_id: int, number: int, token: str) -> bool:
    found = db.value(
        "SELECT 1 FROM batches WHERE campaign_id = ? AND number = ? AND settled_token = ?", campaign_id, number, token
    )
    return found is not None


def _is_bounce(outcome: Outcome) -> bool:
    return outcome.state is RecipientState.FAILED and outcome.attempt and is_refusal(outcome.reason)


def _count_bounces(db: Db, outcomes: Sequence[Outcome], settling: bool) -> None:
    """Note refusals for good and acceptances beside the subscribers; no statement for a batch without.

    When somebody else settles, nobody knows who had been refused before, so all who accepted are asked.
    """
    refused = {o.subscriber_id: o.reason for o in outcomes if _is_bounce(o)}
    if refused:
        note_bounces(db, refused)
    accepted = [o.subscriber_id for o in outcomes if o.recovered or (settling and o.state is RecipientState.SENT)]
    if accepted:
        forget_bounces(db, accepted)


def _update_recipients(db: Db, campaign_id: int, number: int, outcomes: Sequence[Outcome], was: RecipientState) -> int:
    """Update the recipients that are in the state they should be in; how many there were."""
    by_state: dict[RecipientState, list[Outcome]] = {}
    for outcome in outcomes:
        by_state.setdefault(outcome.state, []).append(outcome)
    return sum(
        db.update_many(
            "recipients",
            f"state = '{state}', attempts = attempts + new_attempt, crashes = crashes + new_crash, "
            "server_id = new_server, reason = new_reason, tried_at = new_time",
            _GIVEN,
            [(o.subscriber_id, int(o.attempt), int(o.crashed), o.server_id, o.reason[:500], o.tried_at) for o in group],
            "campaign_id = ? AND subscriber_id = id AND batch = ? AND state = ?",
            campaign_id, number, was,
        )
        for state, group in by_state.items()
    )  # fmt: skip


def count_again(db: Db, campaign_id: int, number: int, now: int) -> None:
    """Make the counters say what the rows say."""
    rows = db.rows(
        f"SELECT state, COUNT(*) FROM recipients{db.by_batch} WHERE campaign_id = ? AND batch = ? GROUP BY state",
        campaign_id,
        number,
    )
    counts = {str(state): int(count) for state, count in rows}
    pending = counts.get(RecipientState.PENDING, 0)
    db.run(
        "UPDATE batches SET pending = ?, sent = ?, failed = ?, skipped = ?, unknown = ? "
        "WHERE campaign_id = ? AND number = ?",
        *[counts.get(state, 0) for state in RecipientState], campaign_id, number,
    )  # fmt: skip
    db.run(
        "UPDATE batches SET state = ?, finished_at = ? WHERE campaign_id = ? AND number = ? AND state = ? AND ? = 0",
        BatchState.DONE, now, campaign_id, number, BatchState.READY, pending,
    )  # fmt: skip
