"""Alarms as they stand in the database: since when, who knows of them, who was told; and those that are over."""

from __future__ import annotations

import json
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.config import Settings
from app.db import Db
from app.errors import NotFound
from app.scaling.alerts import Alert, typed

COLUMNS = (
    "id, place, alarm_key, kind, source, severity, subject, what, remedy, details, opened_at, times, closed_at, "
    "acknowledged_by, acknowledged_at, silent_until"
)


@dataclass(frozen=True)
class Alarm:
    """One alarm. Instants in ms since 1970. `id` None: it could not be written down yet.

    `place`: the host and home that see it, empty for all. `times`: how often it came. An acknowledged one keeps quiet
    until `silent_until`, or until it is over when that is None.
    """

    id: int | None
    place: str
    key: str
    kind: str
    source: str
    severity: str
    where: str
    what: str
    remedy: str
    values: Mapping[str, str | int]
    opened_at: int
    times: int = 1
    closed_at: int | None = None
    acknowledged_by: str | None = None
    acknowledged_at: int | None = None
    silent_until: int | None = None

    @property
    def command(self) -> str:
        """The remedy when it can be typed, else empty."""
        return typed(self.remedy)

    def is_quiet(self, now: int) -> bool:
        """Whether somebody knows of it and wants to hear no more."""
        return self.acknowledged_at is not None and (self.silent_until is None or self.silent_until > now)


@dataclass(frozen=True)
class Event:
    """What happened to an alarm: opened, again, closed, told, told closed, acknowledged, reminded.

    `who`: who did it, or whom it was told.
    """

    at: int
    kind: str
    who: str
    detail: str


def place_of(settings: Settings) -> str:
    """This host and home."""
    return f"{socket.gethostname()} {settings.home}"[:300]


def open_alarms(db: Db) -> list[Alarm]:
    """Those of all places, as they were when they began."""
    return [alarm_of(row) for row in db.rows(f"SELECT {COLUMNS} FROM alarms WHERE closed_at = 0 ORDER BY id")]


def over(db: Db, limit: int, before: int) -> list[Alarm]:
    """Those of all places that are over, the newest first; those with an id below `before`."""
    rows = db.rows(
        f"SELECT {COLUMNS} FROM alarms WHERE closed_at > 0 AND id < ? ORDER BY id DESC LIMIT ?", before, limit
    )
    return [alarm_of(row) for row in rows]


def find_alarm(db: Db, alarm_id: int) -> Alarm:
    """Raises NotFound."""
    row = db.row(f"SELECT {COLUMNS} FROM alarms WHERE id = ?", alarm_id)
    if row is None:
        raise NotFound(f"there is no alarm {alarm_id}")
    return alarm_of(row)


def events_of(db: Db, alarm_ids: Collection[int]) -> dict[int, list[Event]]:
    """What happened to each of these, in order."""
    if not alarm_ids:
        return {}
    marks = ", ".join("?" * len(alarm_ids))
    found: dict[int, list[Event]] = {id_: [] for id_ in alarm_ids}
    for id_, *event in db.rows(
        f"SELECT alarm_id, at, kind, who, detail FROM alarm_events WHERE alarm_id IN ({marks}) ORDER BY alarm_id, id",
        *alarm_ids,
    ):
        found[int(id_)].append(Event(*event))
    return found


def quiet_keys(alarms: Iterable[Alarm], place: str, now: int) -> frozenset[str]:
    """The keys of those that a place sees and of which nobody wants to hear."""
    return frozenset(one.key for one in alarms if one.place in (place, "") and one.is_quiet(now))


def unwritten(place: str, alert: Alert, since: int) -> Alarm:
    """An alarm while the database cannot be asked."""
    return Alarm(
        None, seen_from(alert, place), alert.key, alert.kind, alert.source, str(alert.severity), alert.where,
        alert.what, alert.remedy, alert.values, since,
    )  # fmt: skip


def seen_from(alert: Alert, place: str) -> str:
    """The place that an alert belongs to, empty for what everybody sees."""
    return "" if alert.everywhere else place


def alarm_of(row: Sequence[Any]) -> Alarm:
    id_, place, key, kind, source, severity, where, what, remedy, details, opened_at, times, closed_at, *rest = row
    return Alarm(
        int(id_), place, key, kind, source, severity, where, what, remedy, json.loads(details), int(opened_at),
        int(times), int(closed_at) or None, *rest,
    )  # fmt: skip
