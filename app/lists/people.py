"""Write a chunk of rows: what the database holds, what the rows say, and the difference.

Rows count one after another as if each were its own import, but the database sees a few statements
with many rows each: on MySQL a round trip per row would cost more than everything else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from app.db import Db
from app.lists.columns import Person, Wish
from app.models.states import MembershipStatus, SubscriberStatus

# Past 1000 values MariaDB turns IN into a join with a temporary table (in_predicate_conversion_threshold).
KEYS_A_STATEMENT = 500
# CASE compares one by one: the work grows with the square of the rows.
UPDATES_A_STATEMENT = 100

T = TypeVar("T")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Outcome(StrEnum):
    """What a row came to. A person is `created` when new, or newly (again) a member of the list."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(slots=True)
class _Standing:
    """Where one address stands: as the database has it, then as the rows leave it."""

    id: int | None
    email: str
    name: str
    attributes: str
    status: str
    membership: str | None
    was_member: str | None
    changed: bool = False


def write_people(db: Db, list_id: int, people: Sequence[Person]) -> list[Outcome]:
    """Bring the list and its people to what the rows say; what each row came to, in order.

    To be called inside a transaction. May raise IntegrityError when another writer has inserted
    the same person meanwhile: then all of it is to be tried again.

    An address keeps its id and its first spelling for ever. New attributes are merged over the old
    ones. `unsubscribed` stays what it is, `blocked` and `bounced` too; a `removed` member and a
    `deleted` person become active again.
    """
    standings = _load(db, list_id, list(dict.fromkeys(p.key for p in people)))
    outcomes = []
    for person in people:
        standing = standings.get(person.key)
        if standing is None:
            standings[person.key] = _newcomer(person)
            outcomes.append(Outcome.CREATED)
        else:
            outcomes.append(_apply(standing, person))
    now = db.now_ms()
    _insert(db, [(key, s) for key, s in standings.items() if s.id is None], now)
    _update(db, [s for s in standings.values() if s.id is not None and s.changed], now)
    _write_memberships(db, list_id, standings, now)
    return outcomes


def _load(db: Db, list_id: int, keys: Sequence[str]) -> dict[str, _Standing]:
    """The people among `keys` that exist. Those another writer holds at this moment look missing:
    inserting them then waits for it and fails, and the chunk is read anew."""
    standings = {}
    for part in _parts(keys, KEYS_A_STATEMENT):
        found = db.rows(
            "SELECT s.email_key, s.id, s.email, s.name, s.attributes, s.status, m.status FROM subscribers s"
            " LEFT JOIN memberships m ON m.list_id = ? AND m.subscriber_id = s.id"
            f" WHERE s.email_key IN ({_marks(part)}){db.skip_locked}",
            list_id,
            *part,
        )
        for key, id_, email, name, attributes, status, membership in found:
            standings[key] = _Standing(id_, email, name, attributes, status, membership, membership)
    return standings


def _newcomer(person: Person) -> _Standing:
    return _Standing(
        id=None,
        email=person.email,
        name=person.name,
        attributes=_encode(person.attributes),
        status=_status(SubscriberStatus.ACTIVE, person.wish),
        membership=_membership(None, person.wish),
        was_member=None,
    )


def _apply(standing: _Standing, person: Person) -> Outcome:
    """What a further row changes about someone known."""
    membership = _membership(standing.membership, person.wish)
    status = _status(standing.status, person.wish)
    name = person.name or standing.name
    attributes = _merged(standing.attributes, person.attributes)
    same_person = (name, attributes, status) == (standing.name, standing.attributes, standing.status)
    joined = standing.membership in (None, MembershipStatus.REMOVED) and membership != standing.membership
    same_member = membership == standing.membership
    standing.name, standing.attributes, standing.status = name, attributes, status
    standing.membership = membership
    standing.changed |= not same_person
    if joined:
        return Outcome.CREATED
    return Outcome.UNCHANGED if same_person and same_member else Outcome.UPDATED


def _membership(present: str | None, wish: Wish) -> str:
    # Someone blocked elsewhere is not to be mailed even if unblocked here by mistake.
    if wish is not Wish.JOIN or present == MembershipStatus.UNSUBSCRIBED:
        return MembershipStatus.UNSUBSCRIBED.value
    return MembershipStatus.ACTIVE.value


def _status(present: str, wish: Wish) -> str:
    if present in (SubscriberStatus.BLOCKED, SubscriberStatus.BOUNCED):
        return present
    return (SubscriberStatus.BLOCKED if wish is Wish.BLOCK else SubscriberStatus.ACTIVE).value


def _merged(old: str, new: dict[str, Any]) -> str:
    """The stored attributes with the new ones over them; the very same text when nothing changes."""
    if not new or old == (encoded := _encode(new)):
        return old
    return encoded if old == "{}" else _encode(json.loads(old) | new)


def _insert(db: Db, people: Sequence[tuple[str, _Standing]], now: int) -> None:
    db.run_many(
        "INSERT INTO subscribers (email, email_key, name, attributes, status, created_at, updated_at)",
        [(s.email, key, s.name, s.attributes, s.status, now, now) for key, s in people],
    )


def _update(db: Db, people: Sequence[_Standing], now: int) -> None:
    for part in _parts(people, UPDATES_A_STATEMENT):
        when = " ".join(["WHEN ? THEN ?"] * len(part))
        db.run(
            f"UPDATE subscribers SET name = CASE id {when} END, attributes = CASE id {when} END,"
            f" status = CASE id {when} END, updated_at = ? WHERE id IN ({_marks(part)})",
            *(value for s in part for value in (s.id, s.name)),
            *(value for s in part for value in (s.id, s.attributes)),
            *(value for s in part for value in (s.id, s.status)),
            now,
            *(s.id for s in part),
        )


def _write_memberships(db: Db, list_id: int, standings: dict[str, _Standing], now: int) -> None:
    for status in MembershipStatus:
        joining = [k for k, s in standings.items() if s.was_member is None and s.membership == status]
        for keys in _parts(joining, KEYS_A_STATEMENT):
            db.run(
                "INSERT INTO memberships (list_id, subscriber_id, status, created_at, updated_at)"
                f" SELECT ?, id, ?, ?, ? FROM subscribers WHERE email_key IN ({_marks(keys)})",
                *(list_id, status.value, now, now),
                *keys,
            )
        changing = [s.id for s in standings.values() if s.was_member and s.membership == status != s.was_member]
        for ids in _parts(changing, KEYS_A_STATEMENT):
            db.run(
                "UPDATE memberships SET status = ?, updated_at = ? WHERE list_id = ?"
                f" AND subscriber_id IN ({_marks(ids)})",
                *(status.value, now, list_id),
                *ids,
            )


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)
