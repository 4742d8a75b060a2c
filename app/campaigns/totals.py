"""How far many campaigns are, by one look at the counters of all their batches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from app.db import Db
from app.models.states import BatchState


@dataclass(frozen=True)
class Totals:
    """Recipients by state; they add up to `recipients`."""

    pending: int = 0
    sending: int = 0
    sent: int = 0
    failed: int = 0
    skipped: int = 0
    unknown: int = 0

    @property
    def done(self) -> int:
        return self.sent + self.failed + self.skipped + self.unknown

    @property
    def recipients(self) -> int:
        return self.done + self.pending + self.sending


def totals_of(db: Db, campaign_ids: Collection[int]) -> dict[int, Totals]:
    """The totals of each of these campaigns; of one that is not expanded yet, zeros."""
    if not campaign_ids:
        return {}
    rows = db.rows(
        "SELECT campaign_id, SUM(CASE WHEN state = ? THEN 0 ELSE pending END), "
        "SUM(CASE WHEN state = ? THEN pending ELSE 0 END), SUM(sent), SUM(failed), SUM(skipped), SUM(unknown) "
        f"FROM batches WHERE campaign_id IN ({', '.join('?' * len(campaign_ids))}) GROUP BY campaign_id",
        BatchState.LEASED, BatchState.LEASED, *campaign_ids,
    )  # fmt: skip
    found = {int(row[0]): Totals(*(int(value) for value in row[1:])) for row in rows}
    return {id_: found.get(id_, Totals()) for id_ in campaign_ids}
