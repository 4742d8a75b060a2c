"""What was tried, by server, minute and campaign: counted in the transaction that writes the outcomes.

Limits are counted again from it after Redis lost them, and pages plot it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from app.campaigns.delivery_hours import COLUMNS, MINUTE_MS, OLDEST_MINUTES
from app.db import Db
from app.models.states import RecipientState

if TYPE_CHECKING:
    from app.campaigns.outcomes import Outcome

#: Where each state is counted, behind `attempts`.
_PLACE = {
    RecipientState.SENT: 1,
    RecipientState.FAILED: 2,
    RecipientState.PENDING: 3,
    RecipientState.UNKNOWN: 4,
}


def count_attempts(db: Db, campaign_id: int, outcomes: Iterable[Outcome], now: int) -> None:
    """Add what servers were asked to take; one statement, or none when nothing went to a server.

    What is told later than `OLDEST_MINUTES` counts as of then: hours before are summed up already.

    The last statement of its transaction, its rows in the order of the key: whoever waits for a row here holds
    none that another one who counts is waiting for.
    """
    counts: dict[tuple[int, int], list[int]] = {}
    oldest = now // MINUTE_MS - OLDEST_MINUTES
    for outcome in outcomes:
        place = _PLACE.get(outcome.state)
        if outcome.server_id is None or place is None or not outcome.attempt:
            continue
        key = (outcome.server_id, max(outcome.tried_at // MINUTE_MS, oldest))
        row = counts.get(key)
        if row is None:
            row = counts[key] = [0] * len(COLUMNS)
        row[0] += 1
        row[place] += 1
    if not counts:
        return
    added = ", ".join(f"{name} = {name} + {_new(db, name)}" for name in COLUMNS)
    db.run_many(
        f"INSERT INTO deliveries (server_id, minute, campaign_id, {', '.join(COLUMNS)})",
        [(server, minute, campaign_id, *counts[server, minute]) for server, minute in sorted(counts)],
        f" ON DUPLICATE KEY UPDATE {added}"
        if db.dialect == "mysql"
        else f" ON CONFLICT (server_id, minute, campaign_id) DO UPDATE SET {added}",
    )


def _new(db: Db, column: str) -> str:
    return f"VALUES({column})" if db.dialect == "mysql" else f"excluded.{column}"
