"""Imports that a worker does: what is to be done, and who does it. States: docs/states.md."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from dataclasses import dataclass, fields
from pathlib import Path

from app.config import Settings
from app.db import Db
from app.errors import NotFound, Refused
from app.events import emit
from app.lists.import_kinds import NO_LIST, kind_of
from app.lists.reading import CsvReader
from app.models.states import IMPORT_OPEN, ImportState

#: An import that came no row further under so many workers in a row, each of which died, is given up.
MOST_TRIES = 3
LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Import:
    """A row of `imports`. Instants in ms since 1970 UTC, sizes in bytes, `rate` in rows a second.

    `list_id` NO_LIST: rules of suppression; `reason` is that of rows which bring none, `blocked` counts subscribers.
    """

    id: int
    list_id: int
    file_name: str
    stored: str
    place: str
    encoding: str | None
    size: int
    who: str
    state: ImportState
    token: str | None
    bytes_read: int
    rows_read: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    rejects_size: int
    rate: float | None
    reason: str | None
    blocked: int
    error: str | None
    created_at: int
    started_at: int | None
    finished_at: int | None

    @property
    def is_rules(self) -> bool:
        return self.list_id == NO_LIST

    @property
    def eta_seconds(self) -> float | None:
        """By the bytes that are left; None while nobody knows."""
        if self.state is not ImportState.RUNNING or not self.rate or not self.rows_read or not self.bytes_read:
            return None
        return round((self.size - self.bytes_read) / (self.bytes_read / self.rows_read) / self.rate, 1)


_COLUMNS = ", ".join(field.name for field in fields(Import))


def submit(
    db: Db,
    settings: Settings,
    stored: str,
    *,
    list_id: int,
    file_name: str,
    encoding: str | None,
    who: str,
    now: int,
    reason: str | None = None,
) -> int:
    """Have a file in `settings.uploads` imported; the import's id. Raises UsageError when its header is unusable."""
    path = settings.uploads / stored
    with path.open("rb") as source:
        kind_of(list_id, reason).records(CsvReader(source, encoding))
    import_id = db.insert(
        "INSERT INTO imports (list_id, file_name, stored, place, encoding, size, who, reason, state, created_at, "
        "updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        list_id, file_name[-LONGEST_NAME:], stored, place(settings), encoding, path.stat().st_size, who[:100],
        reason, ImportState.WAITING, now, now,
    )  # fmt: skip
    emit("import submitted", import_id=import_id, list_id=list_id, file=file_name)
    return import_id


def place(settings: Settings) -> str:
    """The machine and home whose workers can read what was uploaded here."""
    digest = hashlib.sha256(os.fsencode(settings.home.resolve())).hexdigest()[:8]
    return f"{socket.gethostname()[:250]}~{digest}"


def find_import(db: Db, import_id: int) -> Import:
    """Raises NotFound."""
    row = db.row(f"SELECT {_COLUMNS} FROM imports WHERE id = ?", import_id) if import_id < 2**63 else None
    if row is None:
        raise NotFound(f"there is no import {import_id}")
    return _import(row)


def imports(db: Db, limit: int, before: int | None = None, list_id: int | None = None) -> list[Import]:
    """The newest first: those with an id below `before`, of this list."""
    rows = db.rows(
        f"SELECT {_COLUMNS} FROM imports WHERE id < ? AND (? IS NULL OR list_id = ?) ORDER BY id DESC LIMIT ?",
        before if before is not None else 2**63 - 1, list_id, list_id, limit,
    )  # fmt: skip
    return [_import(row) for row in rows]


def rejects_path(settings: Settings, import_id: int) -> Path:
    return settings.rejects / f"import-{import_id}.csv"


def cancel_import(db: Db, import_id: int, now: int) -> None:
    """Have it go no further; what is in stays in. Raises NotFound, or Refused when it has ended already."""
    mine = db.run(
        "UPDATE imports SET state = ?, token = NULL, updated_at = ?, finished_at = ? WHERE id = ? AND state IN (?, ?)",
        ImportState.CANCELLED, now, now, import_id, *sorted(IMPORT_OPEN),
    )  # fmt: skip
    if mine != 1:
        raise Refused(f"import {import_id} is {find_import(db, import_id).state} already")
    emit("import cancelled", import_id=import_id)


def something_to_import(db: Db, now: int, where: str | None = None) -> bool:
    """Whether an import waits, or has lost its worker: at this place, or (None) at any."""
    return bool(_due(db, now, where))


def take_next(db: Db, settings: Settings, now: int) -> Import | None:
    """Claim the oldest import that waits here or has lost its worker; None while another one is worked at."""
    here = place(settings)
    if db.value(
        "SELECT 1 FROM imports WHERE state = ? AND lease_until > ? AND place = ? LIMIT 1",
        ImportState.RUNNING,
        now,
        here,
    ):
        return None
    for import_id, tries, rows_read in _due(db, now, here):
        if tries >= MOST_TRIES:
            _give_up(db, import_id, tries, f"{tries} workers ended at row {rows_read + 1} without getting further", now)
            continue
        token = secrets.token_hex(16)
        mine = db.run(
            "UPDATE imports SET state = ?, token = ?, lease_until = ?, tries = tries + 1, rate = NULL, updated_at = ?, "
            "started_at = COALESCE(started_at, ?) WHERE id = ? AND tries = ? AND state IN (?, ?) AND lease_until <= ?",
            ImportState.RUNNING, token, now + settings.lease_seconds * 1000, now, now, import_id, tries,
            *sorted(IMPORT_OPEN), now,
        )  # fmt: skip
        if mine == 1:
            return find_import(db, import_id)
    return None


def _due(db: Db, now: int, where: str | None) -> list[tuple[int, int, int]]:
    """Id, tries and rows of those that somebody should take up."""
    rows = db.rows(
        "SELECT id, tries, rows_read FROM imports WHERE state IN (?, ?) AND lease_until <= ? "
        "AND (? IS NULL OR place = ?) ORDER BY id LIMIT 100",
        *sorted(IMPORT_OPEN), now, where, where,
    )  # fmt: skip
    return [(int(i), int(tries), int(read)) for i, tries, read in rows]


def _give_up(db: Db, import_id: int, tries: int, reason: str, now: int) -> None:
    db.run(
        "UPDATE imports SET state = ?, error = ?, token = NULL, updated_at = ?, finished_at = ? "
        "WHERE id = ? AND tries = ? AND state IN (?, ?) AND lease_until <= ?",
        ImportState.FAILED, reason, now, now, import_id, tries, *sorted(IMPORT_OPEN), now,
    )  # fmt: skip


def _import(row: tuple[object, ...]) -> Import:
    found = dict(zip((field.name for field in fields(Import)), row, strict=True))
    return Import(**{**found, "state": ImportState(str(found["state"]))})  # type: ignore[arg-type]
