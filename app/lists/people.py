"""Write a chunk of rows: what the database holds, what the rows say, and the difference.

Rows count one after another as if each were its own import, but the database sees a few statements
with many rows each: on MySQL a round trip per row would cost more than everything else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.db import Db
from app.db.parts import marks, parts
from app.lists.columns import Person, Wish
from app.lists.memberships import note_departure
from app.mail.suppression import Rule, rules_for
from app.models.states import MembershipStatus, SubscriberStatus

# CASE compares one by one: the work grows with the square of the rows.
UPDATES_A_STATEMENT = 100
#: Why somebody is blocked whom no rule blocks. No rule that goes makes them active again.
IMPORTED = f"{SubscriberStatus.BLOCKED}: an import said so"

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
    reason: str | None
    membership: str | None
    was_member: str | None
    was_status: tuple[str, str | None] | None = None
    changed: bool = False

    @property
    def is_unwritten(self) -> bool:
        return self.was_status != (self.status, self.reason)


def write_people(db: Db, list_id: int, people: Sequence[Person]) -> list[Outcome]:
    """Bring the list and its people to what the rows say; what each row came to, in order.

    To be called inside a transaction that has taken its turn. May raise IntegrityError when another writer has
    inserted the same person meanwhile: then all of it is to be tried again.

    An address keeps its id and its first spelling for ever. New attributes are merged over the old
    ones. `unsubscribed` stays what it is, `blocked` and `bounced` too; a `removed` member and a
    `deleted` person become active again. Newcomers for whom a rule holds are blocked from the start.
    """
    if any(person.wish is not Wish.JOIN for person in people):
        note_departure(db, list_id, db.now_ms())
    standings = _load(db, list_id, list(dict.fromkeys(p.key for p in people)))
    rules = rules_for(db, [p.key for p in people if _is_new(standings.get(p.key))])
    outcomes = []
    for person in people:
        standing = standings.get(person.key)
        if standing is None:
            standings[person.key] = _newcomer(person, rules.get(person.key))
            outcomes.append(Outcome.CREATED)
        else:
            outcomes.append(_apply(standing, person, rules.get(person.key)))
    now = db.now_ms()
    _insert(db, [(key, s) for key, s in standings.items() if s.id is None], now)
    _update(db, [s for s in standings.values() if s.id is not None and s.changed], now)
    _update_statuses(db, [s for s in standings.values() if s.id is not None and s.is_unwritten], now)
    _write_memberships(db, list_id, standings, now)
    return outcomes


def _load(db: Db, list_id: int, keys: Sequence[str]) -> dict[str, _Standing]:
    """The people among `keys` that exist. Those another writer holds at this moment look missing:
    inserting them then waits for it and fails, and the chunk is read anew."""
    standings = {}
    for part in parts(keys):
        found = db.rows(
            "SELECT s.email_key, s.id, s.email, s.name, s.attributes, s.status, s.status_reason, m.status"
            " FROM subscribers s"
            " LEFT JOIN memberships m ON m.list_id = ? AND m.subscriber_id = s.id"
            f" WHERE s.email_key IN ({marks(part)}){db.skip_locked}",
            list_id,
            *part,
        )
        for key, id_, email, name, attributes, status, reason, member in found:
            standings[key] = _Standing(
                id_, email, name, attributes, status, reason, member, member, was_status=(status, reason)
            )
    return standings


def _is_new(standing: _Standing | None) -> bool:
    """Whom no rule has reached yet: rules that came later have reached everybody else."""
    return standing is None or standing.status == SubscriberStatus.DELETED


def _newcomer(person: Person, rule: Rule | None) -> _Standing:
    status, reason = _status(SubscriberStatus.ACTIVE, None, person.wish, rule)
    return _Standing(
        id=None,
        email=person.email,
        name=person.name,
        attributes=_encode(person.attributes),
        status=status,
        reason=reason,
        membership=_membership(None, person.wish),
        was_member=None,
    )


def _apply(standing: _Standing, person: Person, rule: Rule | None) -> Outcome:
    """What a further row changes about someone known."""
    membership = _membership(standing.membership, person.wish)
    status, reason = _status(standing.status, standing.reason, person.wish, rule)
    name = person.name or standing.name
    attributes = _merged(standing.attributes, person.attributes)
    same_text = (name, attributes) == (standing.name, standing.attributes)
    same_person = same_text and (status, reason) == (standing.status, standing.reason)
    joined = standing.membership in (None, MembershipStatus.REMOVED) and membership != standing.membership
    same_member = membership == standing.membership
    standing.name, standing.attributes, standing.status, standing.reason = name, attributes, status, reason
    standing.membership = membership
    standing.changed |= not same_text
    if joined:
        return Outcome.CREATED
    return Outcome.UNCHANGED if same_person and same_member else Outcome.UPDATED


def _membership(present: str | None, wish: Wish) -> str:
    # Someone blocked elsewhere is not to be mailed even if unblocked here by mistake.
    if wish is not Wish.JOIN or present == MembershipStatus.UNSUBSCRIBED:
        return MembershipStatus.UNSUBSCRIBED.value
    return MembershipStatus.ACTIVE.value


def _status(present: str, reason: str | None, wish: Wish, rule: Rule | None) -> tuple[str, str | None]:
    """The status and its reason."""
    if present == SubscriberStatus.BOUNCED or (present == SubscriberStatus.BLOCKED and wish is not Wish.BLOCK):
        return present, reason
    if wish is Wish.BLOCK:
        return SubscriberStatus.BLOCKED.value, IMPORTED
    return (SubscriberStatus.BLOCKED.value, rule.reason) if rule else (SubscriberStatus.ACTIVE.value, None)


def _merged(old: str, new: dict[str, Any]) -> str:
    """The stored attributes with the new ones over them; the very same text when nothing changes."""
    if not new or old == (encoded := _encode(new)):
        return old
    return encoded if old == "{}" else _encode(json.loads(old) | new)


def _insert(db: Db, people: Sequence[tuple[str, _Standing]], now: int) -> None:
    db.run_many(
        "INSERT INTO subscribers (email, email_key, name, attributes, status, status_reason, created_at, updated_at)",
        [(s.email, key, s.name, s.attributes, s.status, s.reason, now, now) for key, s in people],
    )


def _update(db: Db, people: Sequence[_Standing], now: int) -> None:
    for part in parts(people, UPDATES_A_STATEMENT):
        when = " ".join(["WHEN ? THEN ?"] * len(part))
        db.run(
            f"UPDATE subscribers SET name = CASE id {when} END, attributes = CASE id {when} END,"
            f" updated_at = ? WHERE id IN ({marks(part)})",
            *(value for s in part for value in (s.id, s.name)),
            *(value for s in part for value in (s.id, s.attributes)),
            now,
            *(s.id for s in part),
        )


def _update_statuses(db: Db, people: Sequence[_Standing], now: int) -> None:
    groups: dict[tuple[str, str | None], list[int | None]] = {}
    for standing in people:
        groups.setdefault((standing.status, standing.reason), []).append(standing.id)
    for (status, reason), ids in groups.items():
        for part in parts(ids):
            db.run(
                f"UPDATE subscribers SET status = ?, status_reason = ?, updated_at = ? WHERE id IN ({marks(part)})",
                *(status, reason, now),
                *part,
            )


def _write_memberships(db: Db, list_id: int, standings: dict[str, _Standing], now: int) -> None:
    for status in MembershipStatus:
        joining = [k for k, s in standings.items() if s.was_member is None and s.membership == status]
        for keys in parts(joining):
            db.run(
                "INSERT INTO memberships (list_id, subscriber_id, status, created_at, updated_at)"
                f" SELECT ?, id, ?, ?, ? FROM subscribers WHERE email_key IN ({marks(keys)})",
                *(list_id, status.value, now, now),
                *keys,
            )
        changing = [s.id for s in standings.values() if s.was_member and s.membership == status != s.was_member]
        for ids in parts(changing):
            db.run(
                "UPDATE memberships SET status = ?, updated_at = ? WHERE list_id = ?"
                f" AND subscriber_id IN ({marks(ids)})",
                *(status.value, now, list_id),
                *ids,
            )
