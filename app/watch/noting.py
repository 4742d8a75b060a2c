"""Write down alarms: what is new, what is over, who was told, who knows.

A new problem opens a row, one that is gone closes it; one that comes back within minutes is the same one. Two who note
at once do no harm: of one key only one row can be open.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import peewee

from app.db import Db
from app.errors import NotFound
from app.scaling.alerts import Alert
from app.watch.alarms import COLUMNS, Alarm, alarm_of, find_alarm, open_alarms, seen_from

#: A problem that comes back so soon, in ms, has not been away.
AGAIN_MS = 5 * 60_000
#: What is over is kept for so long, in ms, and removed so many at a time.
KEEP_MS = 400 * 86_400_000
PRUNE_CHUNK = 500


def note(db: Db, place: str, alerts: Collection[Alert], mute: Collection[str], now: int) -> list[Alarm]:
    """Write down what is new and what is over; the open alarms of all places, with what is seen of them now.

    `place`: who looks. What a source in `mute` told is left as it is: it does not answer.
    """
    seen = {(seen_from(alert, place), alert.key[:300]): alert for alert in alerts}
    open_ = _open_by_key(db)
    mine = {where: one for where, one in open_.items() if one.place in (place, "")}
    gone = [one for where, one in mine.items() if where not in seen and one.source not in mute]
    new = {where: alert for where, alert in seen.items() if where not in open_}
    # One transaction each: whoever waits in MariaDB for another's key must hold none, or both wait for each other.
    # A key that is taken: somebody else wrote the same meanwhile.
    for one in gone:
        with suppress(peewee.IntegrityError), db.transaction():
            _close(db, one, now)
    for (where, _), alert in new.items():
        with suppress(peewee.IntegrityError), db.transaction():
            _open(db, where, alert, now)
    if gone or new:
        with db.transaction():
            _prune(db, now)
        open_ = _open_by_key(db)
    return as_seen(open_.values(), alerts, place)


def as_seen(alarms: Iterable[Alarm], alerts: Collection[Alert], place: str) -> list[Alarm]:
    """Alarms with the words and figures of what a place sees now."""
    seen = {(seen_from(alert, place), alert.key[:300]): alert for alert in alerts}
    return [_with(one, seen.get((one.place, one.key))) for one in alarms]


def acknowledge(db: Db, alarm_id: int, who: str, until: int | None, now: int) -> Alarm:
    """Somebody knows: nobody is told until then, or (None) until it is over. Raises NotFound when it is over."""
    with db.transaction():
        changed = db.run(
            "UPDATE alarms SET acknowledged_by = ?, acknowledged_at = ?, silent_until = ? "
            "WHERE id = ? AND closed_at = 0",
            who[:110], now, until, alarm_id,
        )  # fmt: skip
        _want(db, alarm_id, changed)
        _tell(db, alarm_id, now, "acknowledged", who, "" if until is None else str(until))
    return find_alarm(db, alarm_id)


def remind(db: Db, alarm_id: int, who: str, now: int) -> Alarm:
    """Take an acknowledgement back: it counts and is told again. Raises NotFound when it is over."""
    with db.transaction():
        changed = db.run(
            "UPDATE alarms SET acknowledged_by = NULL, acknowledged_at = NULL, silent_until = NULL "
            "WHERE id = ? AND closed_at = 0",
            alarm_id,
        )
        _want(db, alarm_id, changed)
        _tell(db, alarm_id, now, "reminded", who)
    return find_alarm(db, alarm_id)


def note_told(db: Db, place: str, way: str, alerts: Sequence[Alert], resolved: Sequence[str], now: int) -> None:
    """Write down that a way of telling has told of these alerts, and of these keys that they are over."""
    for alert in alerts:
        where = seen_from(alert, place)
        with suppress(peewee.IntegrityError), db.transaction():
            id_ = _id_of(db, where, alert.key) or _open(db, where, alert, now)
            if id_:
                _tell(db, id_, now, "told", way)
    for key in resolved:
        id_ = db.value("SELECT MAX(id) FROM alarms WHERE alarm_key = ? AND place IN (?, '')", key[:300], place)
        if id_:
            _tell(db, int(id_), now, "told closed", way)


def _open(db: Db, place: str, alert: Alert, now: int) -> int | None:
    """Open an alarm, or the last one of this key again when it closed just now; its id."""
    key = alert.key[:300]
    last = db.row(
        f"SELECT {COLUMNS} FROM alarms WHERE place = ? AND alarm_key = ? ORDER BY closed_at DESC LIMIT 1", place, key
    )
    before = alarm_of(last) if last else None
    if before and before.id and (before.closed_at or 0) > now - AGAIN_MS:
        if db.run(
            "UPDATE alarms SET closed_at = 0, times = times + 1, what = ?, severity = ? WHERE id = ? AND closed_at > 0",
            alert.what[:1000], alert.severity, before.id,
        ):  # fmt: skip
            _tell(db, before.id, now, "again")
        return before.id
    said = (place, key, alert.kind, alert.source, alert.severity, alert.where[:200], alert.what[:1000])
    details = json.dumps(dict(alert.values), ensure_ascii=False)
    if len(details) > 2000:
        details = "{}"
    # Who asked for silence until then does not want to hear of the next one of the same either.
    quiet: tuple[Any, ...] = (None, None, None)
    if before and (before.silent_until or 0) > now:
        quiet = (before.acknowledged_by, before.acknowledged_at, before.silent_until)
    opened = db.run(
        f"INSERT {_ignore(db)} INTO alarms (place, alarm_key, kind, source, severity, subject, what, remedy, details, "
        "opened_at, acknowledged_by, acknowledged_at, silent_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *said, alert.remedy[:500], details, now, *quiet,
    )  # fmt: skip
    id_ = _id_of(db, place, key)
    if opened and id_:
        _tell(db, id_, now, "opened")
    return id_


def _open_by_key(db: Db) -> dict[tuple[str, str], Alarm]:
    return {(one.place, one.key): one for one in open_alarms(db)}


def _close(db: Db, alarm: Alarm, now: int) -> None:
    closed = db.run("UPDATE alarms SET closed_at = ? WHERE id = ? AND closed_at = 0", now, alarm.id)
    if closed and alarm.id:
        _tell(db, alarm.id, now, "closed")


def _id_of(db: Db, place: str, key: str) -> int | None:
    id_ = db.value("SELECT id FROM alarms WHERE place = ? AND alarm_key = ? AND closed_at = 0", place, key[:300])
    return None if id_ is None else int(id_)


def _want(db: Db, alarm_id: int, changed: int) -> None:
    if not changed:
        find_alarm(db, alarm_id)
        raise NotFound(f"alarm {alarm_id} is over")


def _tell(db: Db, alarm_id: int, now: int, kind: str, who: str = "", detail: str = "") -> None:
    db.run(
        "INSERT INTO alarm_events (alarm_id, at, kind, who, detail) VALUES (?, ?, ?, ?, ?)",
        alarm_id, now, kind, who[:200], detail[:300],
    )  # fmt: skip


def _prune(db: Db, now: int) -> None:
    """Remove what has been over for very long, with all that happened to it."""
    rows = db.rows(
        "SELECT id FROM alarms WHERE closed_at > 0 AND closed_at < ? ORDER BY closed_at LIMIT ?",
        now - KEEP_MS, PRUNE_CHUNK,
    )  # fmt: skip
    old = [int(id_) for (id_,) in rows]
    if old:
        marks = ", ".join("?" * len(old))
        db.run(f"DELETE FROM alarm_events WHERE alarm_id IN ({marks})", *old)
        db.run(f"DELETE FROM alarms WHERE id IN ({marks})", *old)


def _ignore(db: Db) -> str:
    """Before INTO: nothing is inserted when somebody else has opened it meanwhile."""
    return "IGNORE" if db.dialect == "mysql" else "OR IGNORE"


def _with(alarm: Alarm, alert: Alert | None) -> Alarm:
    if alert is None:
        return alarm
    now: dict[str, Any] = {
        "severity": str(alert.severity), "where": alert.where, "what": alert.what, "remedy": alert.remedy,
        "kind": alert.kind, "values": alert.values,
    }  # fmt: skip
    return Alarm(**{**asdict(alarm), **now})
