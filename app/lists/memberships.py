"""Lists and who is on them, one thing at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import peewee

from app.db import Db
from app.errors import NotFound, UsageError
from app.mail.address import parse_address
from app.models.states import MembershipStatus, SubscriberStatus

LONGEST_LIST_NAME = 200


@dataclass(frozen=True, slots=True)
class ListSummary:
    """A list and how many of its members are subscribed."""

    id: int
    name: str
    subscribers: int


def summaries(db: Db) -> Sequence[ListSummary]:
    """Every list in the order of their ids; members who left are not counted."""
    found = db.rows(
        "SELECT l.id, l.name, (SELECT COUNT(*) FROM memberships m"
        " WHERE m.list_id = l.id AND m.status = ?) FROM lists l ORDER BY l.id",
        MembershipStatus.ACTIVE.value,
    )
    return [ListSummary(*row) for row in found]


def list_name(text: str) -> str:
    """The name of a list, trimmed; raises UsageError for one that cannot be a name."""
    name = text.strip()
    if not name or len(name) > LONGEST_LIST_NAME or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name):
        raise UsageError(f"{text[:100]!r} cannot name a list: 1 to {LONGEST_LIST_NAME} characters, no line breaks")
    return name


def find_list(db: Db, name: str) -> int:
    """The id of a list; raises NotFound."""
    found: int | None = db.value("SELECT id FROM lists WHERE name = ?", name.strip())
    if found is None:
        raise NotFound(f"there is no list {name!r}; bin/mailcrew lists show names them all")
    return found


def find_or_create_list(db: Db, name: str) -> int:
    """The id of the list, which is made when it is missing; raises UsageError for a bad name."""
    name = list_name(name)
    try:
        return find_list(db, name)
    except NotFound:
        pass
    try:
        return db.insert("INSERT INTO lists (name, created_at) VALUES (?, ?)", name, db.now_ms())
    except peewee.IntegrityError:
        # Another import has just made it.
        return find_list(db, name)


def unsubscribe(db: Db, name: str, email: str) -> None:
    """Take a member off the mailing for good: no import subscribes them again.

    A sender asks once more before each batch, so they get no further mail of what is being sent either. Raises
    NotFound when the list or its member does not exist.
    """
    _set(db, name, email, MembershipStatus.UNSUBSCRIBED, (MembershipStatus.ACTIVE, MembershipStatus.REMOVED))


def remove(db: Db, name: str, email: str) -> bool:
    """Take a member off the list until an import names them again; False when they had unsubscribed.

    Who unsubscribed stays so: a removal must not open the way back. Raises NotFound like unsubscribe.
    """
    return _set(db, name, email, MembershipStatus.REMOVED, (MembershipStatus.ACTIVE, MembershipStatus.REMOVED))


def forget(db: Db, email: str) -> None:
    """Delete a person: name and attributes are cleared, memberships removed; raises NotFound.

    The address and id stay as a tombstone, so that one who comes back is still known to have had a
    mail; so do unsubscriptions, blocks and bounces, so that nobody who left is brought back by an import.
    """
    with db.transaction():
        person = _find_person(db, email)
        now = db.now_ms()
        member_of = db.rows(
            "SELECT list_id FROM memberships WHERE subscriber_id = ? AND status = ? ORDER BY list_id",
            *(person, MembershipStatus.ACTIVE.value),
        )
        for (list_id,) in member_of:
            note_departure(db, list_id, now)
        db.run(
            "UPDATE subscribers SET name = '', attributes = '{}', updated_at = ?,"
            " status = CASE WHEN status IN (?, ?) THEN status ELSE ? END WHERE id = ?",
            *(now, SubscriberStatus.BLOCKED.value, SubscriberStatus.BOUNCED.value),
            *(SubscriberStatus.DELETED.value, person),
        )
        db.run(
            "UPDATE memberships SET status = ?, updated_at = ? WHERE subscriber_id = ? AND status = ?",
            *(MembershipStatus.REMOVED.value, now, person, MembershipStatus.ACTIVE.value),
        )


def note_departure(db: Db, list_id: int, now: int) -> None:
    """Make those who send campaigns to this list look who is still on it (`app/campaigns/standing.py`).

    In the transaction in which somebody leaves, before anything else is written: everybody locks lists before
    people. The number always grows, whatever the clock says, so whoever remembers one sees that it is another.
    """
    db.run(
        "UPDATE lists SET unsubscribed_at = CASE WHEN unsubscribed_at >= ? THEN unsubscribed_at + 1 ELSE ? END"
        " WHERE id = ?",
        *(now, now, list_id),
    )


def _find_person(db: Db, email: str) -> int:
    address = parse_address(email.strip())
    found: int | None = db.value("SELECT id FROM subscribers WHERE email_key = ?", address.key)
    if found is None:
        raise NotFound(f"nobody has the address {address.email}")
    return found


def _set(db: Db, name: str, email: str, to: MembershipStatus, among: tuple[MembershipStatus, ...]) -> bool:
    list_id, person = find_list(db, name), _find_person(db, email)
    marks = ", ".join("?" * len(among))
    now = db.now_ms()
    with db.transaction():
        note_departure(db, list_id, now)
        changed = db.run(
            "UPDATE memberships SET status = ?, updated_at = ? WHERE list_id = ? AND subscriber_id = ?"
            f" AND status IN ({marks})",
            *(to.value, now, list_id, person),
            *(status.value for status in among),
        )
    known = db.value("SELECT COUNT(*) FROM memberships WHERE list_id = ? AND subscriber_id = ?", list_id, person)
    if not known:
        raise NotFound(f"{email.strip()} is not on the list {name!r}")
    return changed == 1
