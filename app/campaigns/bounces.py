"""Count the permanent refusals of a subscriber's mails, over all campaigns.

Only a server's 5xx about this recipient counts (RFC 5321 §4.2.1): to RCPT or as the final reply. Not what says
that the content or its sender is unwanted (enhanced codes X.6 and X.7, and 5.3.4, too large; RFC 3463 §3): one
bad letter would make a whole list bounce. Not our own "gave up after 8 attempts" either.

Called inside the transaction that records the outcomes, so each refusal counts exactly once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from app.config import settings
from app.db import Db
from app.models.states import SubscriberStatus

_REFUSAL = re.compile(r"5\d\d(?: |$)(?!5\.(?:[67]\.\d|3\.4\b))")


def is_refusal(reply: str) -> bool:
    """Whether a reply as it was recorded says that this mailbox takes no mail."""
    return _REFUSAL.match(reply) is not None


def note_bounces(db: Db, replies: Mapping[int, str]) -> None:
    """Count one refusal more for each of these subscribers; at BOUNCE_LIMIT they are `bounced`."""
    ids = sorted(replies)
    marks = ", ".join("?" * len(ids))
    db.run(f"UPDATE subscribers SET bounces = bounces + 1 WHERE id IN ({marks})", *ids)
    over = [
        (id_, _reason(int(bounces), replies[int(id_)]))
        # Not asked for who is active: without statistics SQLite would go through all of them.
        for id_, bounces, status in db.rows(f"SELECT id, bounces, status FROM subscribers WHERE id IN ({marks})", *ids)
        if bounces >= settings().bounce_limit and status == SubscriberStatus.ACTIVE
    ]
    if over:
        db.update_many(
            "subscribers",
            f"status = '{SubscriberStatus.BOUNCED}', status_reason = new_reason",
            {"who": "BIGINT", "new_reason": "VARCHAR(500)"},
            sorted(over),
            "id = who AND status = ?",
            SubscriberStatus.ACTIVE,
        )


def forget_bounces(db: Db, ids: Sequence[int]) -> None:
    """Begin to count anew for those whose mail was accepted; who has bounced for good stays so."""
    db.run(
        f"UPDATE subscribers SET bounces = 0 WHERE id IN ({', '.join('?' * len(ids))}) AND bounces > 0 AND status <> ?",
        *sorted(ids), SubscriberStatus.BOUNCED,
    )  # fmt: skip


def _reason(count: int, reply: str) -> str:
    refusals = "1 permanent refusal" if count == 1 else f"{count} permanent refusals, last"
    return f"{SubscriberStatus.BOUNCED}: {refusals} {reply}"[:500]
