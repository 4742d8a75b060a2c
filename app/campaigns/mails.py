"""The mails of a leased batch: whom they are for, and what their messages need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from app.campaigns.batches import Lease
from app.campaigns.standing import CHANGED, REASON, reasons_to_skip
from app.db import Db
from app.db.connection import Row
from app.models.states import RecipientState


@dataclass(frozen=True, slots=True)
class Mail:
    """One recipient of a leased batch, with what the message needs.

    `skip_reason`: why this person is not to be mailed any more, "" for nearly all. `bounces`: refusals in a row so far.
    """

    subscriber_id: int
    email: str
    name: str
    attributes: dict[str, Any]
    skip_reason: str
    attempts: int
    tried_at: int | None
    bounces: int = 0


def mails_of(db: Db, lease: Lease) -> list[Mail]:
    """The pending recipients of a leased batch, by id."""
    changed, rows = _in_one_text(db, lease) if db.dialect == "mysql" else _row_by_row(db, lease)
    skip = reasons_to_skip(db, lease.campaign_id, {row[0]: row[1] for row in rows}, changed)
    return [
        Mail(id_, email, name, attributes, skip.get(id_, ""), attempts, tried_at, bounces)
        for id_, _, email, name, attributes, attempts, tried_at, bounces in rows
    ]


def _row_by_row(db: Db, lease: Lease) -> tuple[int, list[Row]]:
    """What `CHANGED` says, and for each its id, REASON and the fields of `Mail`."""
    rows = db.rows(
        f"SELECT {CHANGED}, s.id, {REASON}, s.email, s.name, s.attributes, r.attempts, r.tried_at, s.bounces "
        f"FROM {_pending(db)} ORDER BY r.subscriber_id",
        lease.campaign_id, lease.campaign_id, lease.number, RecipientState.PENDING,
    )  # fmt: skip
    found = [(*row[1:5], json.loads(row[5]), *row[6:]) for row in rows]
    return (int(rows[0][0]) if rows else 0), found


def _in_one_text(db: Db, lease: Lease) -> tuple[int, list[Row]]:
    """The same from MySQL as one JSON text: its driver reads each value in Python, which takes longer than the rest.

    The server cuts a text that gets too long (MariaDB's default is 1 MB); then row by row.
    """
    changed, count, text = db.rows(
        f"SELECT /*+ SET_VAR(group_concat_max_len = 16777216) */ {CHANGED}, COUNT(*), GROUP_CONCAT(CONCAT("
        f"'[', s.id, ',', COALESCE(JSON_QUOTE({REASON}), 'null'), ',', JSON_QUOTE(s.email), ',', "
        "JSON_QUOTE(s.name), ',', s.attributes, ',', r.attempts, ',', COALESCE(r.tried_at, 'null'), ',', s.bounces, ']'"
        f") ORDER BY r.subscriber_id SEPARATOR ',') FROM {_pending(db)}",
        lease.campaign_id, lease.campaign_id, lease.number, RecipientState.PENDING,
    )[0]  # fmt: skip
    try:
        rows = json.loads(f"[{text or ''}]")
    except ValueError:
        rows = []
    return (int(changed), rows) if len(rows) == count else _row_by_row(db, lease)


def _pending(db: Db) -> str:
    return (
        f"recipients r{db.by_batch} JOIN subscribers s ON s.id = r.subscriber_id "
        "WHERE r.campaign_id = ? AND r.batch = ? AND r.state = ?"
    )
