"""Targets in the database: add, look at, switch off and on, remove."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from app.db import Db
from app.db.connection import Row
from app.errors import NotFound, Refused
from app.models.states import TargetState
from app.schedules.checks.standing import Standing
from app.schedules.checks.target import Wanted

#: A user's run ends in minutes even when all of these answer too late.
MOST_TARGETS = 50

_WANTED = tuple(field.name for field in fields(Wanted))
_STANDING = tuple(field.name for field in fields(Standing))
_LAST = ("at", "ok", "error", "status_code", "latency_ms", "resolve_ms", "connect_ms", "tls_ms", "first_byte_ms")
_COLUMNS = ", ".join(
    ("id", "user_id", "created_at", "certificate_until", *_WANTED, *_STANDING, *(f"last_{name}" for name in _LAST))
)


@dataclass(frozen=True)
class Last:
    """The last result. `latency_ms` is all of it; the steps are None where there was no such step."""

    at: int
    ok: bool
    error: str | None
    status_code: int | None
    latency_ms: int
    resolve_ms: int | None
    connect_ms: int | None
    tls_ms: int | None
    first_byte_ms: int | None


@dataclass(frozen=True)
class Target:
    """A target as it stands. Instants are ms since 1970 UTC."""

    id: int
    user_id: int
    created_at: int
    certificate_until: int | None
    wanted: Wanted
    standing: Standing
    last: Last | None


def add_target(db: Db, user_id: int, wanted: Wanted, now: int) -> int:
    """A new target of a user; its id. Raises NotFound, and Refused for a name used twice or one target too many."""
    with db.transaction():
        # Whoever else adds for this user waits here, or two could both be the last one.
        if not db.run("UPDATE users SET name = name WHERE id = ?", user_id):
            raise NotFound(f"there is no user {user_id}")
        count = int(db.value("SELECT COUNT(*) FROM targets WHERE user_id = ?", user_id))
        if count >= MOST_TARGETS:
            raise Refused(f"this user has {count} targets already, and {MOST_TARGETS} are allowed: remove one first")
        if db.value("SELECT id FROM targets WHERE user_id = ? AND name = ?", user_id, wanted.name):
            raise Refused(f"this user has a target named {wanted.name!r} already: choose another name")
        values = {name: getattr(wanted, name) for name in _WANTED}
        values |= {"user_id": user_id, "state": TargetState.UNKNOWN, "created_at": now, "tidied_at": now}
        return db.insert(
            f"INSERT INTO targets ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
            *(int(value) if isinstance(value, bool) else value for value in values.values()),
        )


def targets_of(db: Db, user_id: int) -> list[Target]:
    """A user's targets by name."""
    return _read(db.rows(f"SELECT {_COLUMNS} FROM targets WHERE user_id = ? ORDER BY name", user_id))


def targets_to_check(db: Db, user_id: int) -> list[Target]:
    """Those that are switched on, longest not checked first: if time runs out, these have had their turn."""
    return _read(
        db.rows(
            f"SELECT {_COLUMNS} FROM targets WHERE user_id = ? AND enabled = 1 ORDER BY COALESCE(last_at, 0), id",
            user_id,
        )
    )


def find_target(db: Db, target_id: int, user_id: int | None = None) -> Target:
    """One target, of this user if one is named; raises NotFound."""
    # SQLite takes no number beyond 64 bits, not even to find nothing.
    there = -(2**63) <= target_id < 2**63
    found = _read(db.rows(f"SELECT {_COLUMNS} FROM targets WHERE id = ?", target_id)) if there else []
    if not found or user_id not in (None, found[0].user_id):
        raise _unknown(target_id, user_id)
    return found[0]


def remove_target(db: Db, target_id: int, now: int, user_id: int | None = None) -> None:
    """Remove a target at once; its results go by and by. Raises NotFound."""
    target = find_target(db, target_id, user_id)
    with db.transaction():
        if not db.run("DELETE FROM targets WHERE id = ?", target.id):
            raise _unknown(target_id, user_id)
        db.run("INSERT INTO removed_targets (target_id, removed_at) VALUES (?, ?)", target.id, now)


def switch_target(db: Db, target_id: int, on: bool, now: int, user_id: int | None = None) -> bool:
    """Have a target checked, or not for a while; whether that is a change. Raises NotFound.

    Switched off it is neither up nor down, and an outage that was going on ends without a word.
    """
    target = find_target(db, target_id, user_id)
    with db.transaction():
        changed = db.run(
            "UPDATE targets SET enabled = ?, state = ?, failures = 0, failing_since = NULL, changed_at = ? "
            "WHERE id = ? AND enabled = ?",
            int(on), TargetState.UNKNOWN, now, target.id, int(not on),
        )  # fmt: skip
        if changed:
            db.run("UPDATE target_outages SET ended_at = ? WHERE target_id = ? AND ended_at IS NULL", now, target.id)
    return changed == 1


def _unknown(target_id: int, user_id: int | None) -> NotFound:
    return NotFound(f"there is no target {target_id}" + (" of this user" if user_id is not None else ""))


def _read(rows: Iterable[Row]) -> list[Target]:
    return [_target(row) for row in rows]


def _target(row: Row) -> Target:
    values = iter(row)
    id_, user_id, created_at, certificate_until = (next(values) for _ in range(4))
    wanted: dict[str, Any] = {name: next(values) for name in _WANTED}
    standing: dict[str, Any] = {name: next(values) for name in _STANDING}
    last: dict[str, Any] = {name: next(values) for name in _LAST}
    return Target(
        id=id_,
        user_id=user_id,
        created_at=created_at,
        certificate_until=certificate_until,
        wanted=Wanted(**{**wanted, "enabled": bool(wanted["enabled"])}),
        standing=Standing(**{**standing, "state": TargetState(standing["state"])}),
        last=None if last["at"] is None else Last(**{**last, "ok": bool(last["ok"])}),
    )
