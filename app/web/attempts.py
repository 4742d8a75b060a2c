"""How often a login may be tried: counted in the database, before the password is looked at.

So all processes count together, and trying at the same moment helps nobody. A person who has the password is
kept out by nobody else's tries: the common limit is not for addresses that have been let in lately.
"""

from __future__ import annotations

import ipaddress

from peewee import IntegrityError

from app.db import Db

WINDOW_MS = 15 * 60_000
EACH_ADDRESS = 10
EVERYBODY = 200
ALL = "*"
#: An address that has been let in stays known for so long, in ms.
KNOWN_MS = 30 * 86_400_000
LET_IN = "login"


def may_try(db: Db, address: str, now: int) -> bool:
    """Count a try to log in from this address; False when there were too many of them lately."""
    db.run("DELETE FROM login_attempts WHERE since <= ?", now - WINDOW_MS)
    if not _count(db, _whose(address), EACH_ADDRESS, now):
        return False
    known = db.value(
        "SELECT 1 FROM audit WHERE at > ? AND action = ? AND address = ? LIMIT 1", now - KNOWN_MS, LET_IN, address
    )
    return bool(known) or _count(db, ALL, EVERYBODY, now)


def forget(db: Db, address: str) -> None:
    """Somebody with the right password came from there."""
    db.run("DELETE FROM login_attempts WHERE who = ?", _whose(address))


def _whose(address: str) -> str:
    """Who owns one IPv6 address owns all of its /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)


def _count(db: Db, who: str, most: int, now: int) -> bool:
    for _ in range(2):
        if db.run("UPDATE login_attempts SET tries = tries + 1 WHERE who = ? AND tries < ?", who, most):
            return True
        try:
            db.run("INSERT INTO login_attempts (who, since, tries) VALUES (?, ?, 1)", who, now)
            return True
        except IntegrityError:
            continue  # it is there: at its limit, or made a moment ago by somebody else
    return False
