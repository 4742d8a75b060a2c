"""The audit trail: a row for whatever a person or a token did, or was refused, over HTTP."""

from __future__ import annotations

import time
from dataclasses import dataclass

from flask import Flask, Response, g, request

from app.db import Db
from app.db.connection import DatabaseTrouble
from app.events import warn
from app.web.access import LOOKING, Caller
from app.web.resources import resources

#: Older rows are removed.
KEEP_MS = 400 * 86_400_000
PRUNE_SECONDS = 3600.0
PRUNE_CHUNK = 1000

_COLUMNS = "at, who, action, subject, detail, address"


@dataclass(frozen=True)
class Entry:
    """`at`: ms since 1970. `action`: the route's name; `subject`: what it was done to; `detail`: how it ended."""

    id: int
    at: int
    who: str
    action: str
    subject: str
    detail: str
    address: str


def install(app: Flask) -> None:
    """Write down every request of the application that may change something, with its outcome."""
    app.after_request(_write)


def tell(detail: str) -> None:
    """Add to the present request's row what a person would ask for later. No secrets: pages show it."""
    g.audit_detail = f"{g.audit_detail}, {detail}" if g.get("audit_detail") else detail


def leave_out() -> None:
    """Write nothing about the present request: it changes nothing."""
    g.audited = True


def write(db: Db, who: str, action: str, subject: str = "", detail: str = "") -> None:
    """Write a row; a database that cannot take it costs a warning, for what it tells of has happened."""
    row = (who[:100], action[:100], subject[:300], detail[:500], (request.remote_addr or "")[:45])
    try:
        now = db.now_ms()
        db.run(f"INSERT INTO audit ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", now, *row)
        _prune(db, now)
    except DatabaseTrouble as error:
        warn("the audit trail could not be written", who=who, action=action, subject=subject, reason=str(error))


def entries(db: Db, limit: int, before: int | None = None, who: str = "", action: str = "") -> list[Entry]:
    """The newest rows first; those with an id below `before`, by this caller, whose action begins so."""
    conditions: list[str] = []
    values: list[object] = []
    for condition, value in (("id < ?", before), ("who = ?", who), ("action LIKE ?", f"{action}%" if action else "")):
        if value:
            conditions.append(condition)
            values.append(value)
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    rows = db.rows(f"SELECT id, {_COLUMNS} FROM audit {where}ORDER BY id DESC LIMIT ?", *values, limit)
    return [Entry(*row) for row in rows]


def _write(response: Response) -> Response:
    known = g.get("caller")
    if request.method not in LOOKING and isinstance(known, Caller) and not g.get("audited"):
        said = g.get("audit_detail")
        subject = ", ".join(f"{value}" for value in (request.view_args or {}).values())
        write(
            resources().db, known.name if known.session else f"token {known.name}",
            (request.endpoint or request.path).removeprefix("console_"), subject,
            f"{response.status_code}{f': {said}' if said else ''}",
        )  # fmt: skip
    return response


_pruned = 0.0


def _prune(db: Db, now: int) -> None:
    global _pruned
    if time.monotonic() - _pruned < PRUNE_SECONDS and _pruned:
        return
    _pruned = time.monotonic()
    newest = db.value(
        "SELECT MAX(id) FROM (SELECT id FROM audit WHERE at < ? ORDER BY at, id LIMIT ?) AS old",
        now - KEEP_MS, PRUNE_CHUNK,
    )  # fmt: skip
    if newest:
        db.run("DELETE FROM audit WHERE at < ? AND id <= ?", now - KEEP_MS, newest)
