"""Who a campaign is for: its lists, how many people that is, which fields they have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from app.db import Db
from app.models.states import MembershipStatus

#: Members of each list whose attributes are looked at to learn which fields exist.
SAMPLE = 1000


@dataclass(frozen=True)
class ListSize:
    list_id: int
    name: str
    active: int


def list_sizes(db: Db, campaign_id: int) -> list[ListSize]:
    """The campaign's lists in order, with their active members counted."""
    rows = db.rows(
        "SELECT c.list_id, l.name, (SELECT COUNT(*) FROM memberships m WHERE m.list_id = c.list_id AND m.status = ?) "
        "FROM campaign_lists c JOIN lists l ON l.id = c.list_id WHERE c.campaign_id = ? ORDER BY c.position",
        MembershipStatus.ACTIVE, campaign_id,
    )  # fmt: skip
    return [ListSize(int(i), str(name), int(active)) for i, name, active in rows]


def unique_total(db: Db, list_ids: Sequence[int]) -> int:
    """How many different people are active on any of the lists."""
    if not list_ids:
        return 0
    marks = ", ".join("?" * len(list_ids))
    return int(
        db.value(
            f"SELECT COUNT(DISTINCT subscriber_id) FROM memberships WHERE list_id IN ({marks}) AND status = ?",
            *list_ids,
            MembershipStatus.ACTIVE,
        )
    )


def known_fields(db: Db, list_ids: Sequence[int]) -> set[str]:
    """The fields that a template may use without a default, from a sample of the lists' members."""
    fields = {"name", "email"}
    for list_id in list_ids:
        rows = db.rows(
            "SELECT s.attributes FROM memberships m JOIN subscribers s ON s.id = m.subscriber_id "
            "WHERE m.list_id = ? AND m.status = ? ORDER BY m.subscriber_id LIMIT ?",
            list_id, MembershipStatus.ACTIVE, SAMPLE,
        )  # fmt: skip
        for (attributes,) in rows:
            fields.update(json.loads(attributes))
    return fields
