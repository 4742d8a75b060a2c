"""What the database says for the metrics, in one look. Every figure is counted along an index, or of few rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.campaigns.delivery_hours import COLUMNS, totals
from app.db import Db
from app.models.counters import Counted, counted_so_far
from app.models.states import CampaignStatus, NoticeState
from app.schedules.overview import Overview, overview

#: Those of a notice's states that somebody may have to do with.
NOTICES = (NoticeState.WAITING, NoticeState.SENDING, NoticeState.FAILED)


@dataclass(frozen=True)
class Decision:
    """The manager's last word on a queue; `at` in ms."""

    queue: str
    target: int
    at: int


@dataclass(frozen=True)
class Figures:
    """`tried`: by a server's name, as `delivery_hours.totals` has it. `paused_recipients`: of paused campaigns."""

    at: int
    campaigns: dict[str, int]
    paused_recipients: int
    tried: dict[str, Sequence[int]]
    counters: dict[Counted, dict[str, int]]
    decisions: Sequence[Decision]
    schedules: Overview
    notices: dict[str, int]


def read_figures(db: Db, now: int, queues: Sequence[str]) -> Figures:
    """The figures at `now` (ms); `queues`: those whose last decision is asked for. Raises DatabaseTrouble."""
    return Figures(
        at=now, campaigns=_campaigns(db), paused_recipients=_paused(db), tried=_tried(db),
        counters=counted_so_far(db), decisions=[one for queue in queues if (one := _decision(db, queue))],
        schedules=overview(db, now), notices=_notices(db),
    )  # fmt: skip


def _campaigns(db: Db) -> dict[str, int]:
    rows = db.rows("SELECT status, COUNT(*) FROM campaigns GROUP BY status")
    return {str(status): int(count) for status, count in rows}


def _paused(db: Db) -> int:
    found = db.value(
        "SELECT SUM(b.pending) FROM campaigns c JOIN batches b ON b.campaign_id = c.id WHERE c.status = ?",
        CampaignStatus.PAUSED,
    )
    return int(found or 0)


def _tried(db: Db) -> dict[str, Sequence[int]]:
    """Of removed servers too, or the sums of all would fall."""
    found = totals(db)
    nothing = [0] * len(COLUMNS)
    servers = db.rows("SELECT id, name FROM servers")
    return {str(name): found.get(int(id_), nothing) for id_, name in servers}


def _decision(db: Db, queue: str) -> Decision | None:
    row = db.row("SELECT target, at FROM scaling_decisions WHERE queue = ? ORDER BY id DESC LIMIT 1", queue)
    return Decision(queue, int(row[0]), int(row[1])) if row else None


def _notices(db: Db) -> dict[str, int]:
    return {state: int(db.value("SELECT COUNT(*) FROM notices WHERE state = ?", state)) for state in NOTICES}
