"""Users: the people whose targets are checked. One address, folded, is one user."""

from __future__ import annotations

from typing import Any

from peewee import IntegrityError

from app.db import Db
from app.errors import NotFound
from app.mail.address import parse_address
from app.models.schedules import Schedule, User

LARGEST_ID = 2**63 - 1


def find_user(said: str | int) -> User:
    """The user with this id or email address; raises NotFound, or UsageError for what is neither."""
    found = _look_up(said)
    if found is None:
        more = "" if is_id(said) else f"; make one: bin/mailcrew schedules set {said}"
        raise NotFound(f"there is no user {said}{more}")
    return found


def _look_up(said: str | int) -> User | None:
    found: Any
    if is_id(said):
        found = User.get_or_none(User.id == int(said))
    else:
        found = User.get_or_none(User.email_key == parse_address(str(said)).key)
    return found if isinstance(found, User) else None


def is_id(said: str | int) -> bool:
    """Whether this names a user by id: an address holds an @."""
    text = str(said)
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST_ID


def find_or_add_user(db: Db, said: str | int, interval_minutes: int, now: int) -> tuple[User, bool]:
    """The user, and whether he is new: then he gets a schedule of this interval and is due at once.

    Raises NotFound for an id that nobody has, UsageError for what is no address.
    """
    if is_id(said):
        return find_user(said), False
    if (found := _look_up(said)) is not None:
        return found, False
    address = parse_address(str(said))
    try:
        with db.transaction():
            user = User.create(email=address.email, email_key=address.key, created_at=now)
            Schedule.insert(user_id=user.id, interval_minutes=interval_minutes, next_run_at=now).execute()
    except IntegrityError:
        return find_user(said), False  # somebody else was faster
    return user, True
