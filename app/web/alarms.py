"""/api/alarms: what needs somebody, since when, what to do; acknowledged for a while; and what is over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, NotRequired, TypedDict
from urllib.parse import quote

from flask import Blueprint, Response, jsonify

from app.instants import iso
from app.scaling.alerts import Severity
from app.watch.alarms import Alarm, Event, events_of, find_alarm, over
from app.watch.noting import acknowledge, remind
from app.web.access import ADMINISTRATOR, caller
from app.web.audit import tell
from app.web.body import json_object
from app.web.campaigns import LARGEST_ID
from app.web.errors import Problem
from app.web.openapi import PAGED, describes, whole_number
from app.web.query import linked, whole
from app.web.resources import resources

routes = Blueprint("alarms", __name__, url_prefix="/api/alarms")

PAGE = 50
LARGEST_PAGE = 500
#: The longest silence: 90 days.
LONGEST_MINUTES = 90 * 24 * 60
AT_ALARM = f"/<int(max={LARGEST_ID}):alarm_id>"


class Acknowledgement(TypedDict):
    """`until` null: until the alarm is over."""

    by: str
    at: str
    until: str | None


class AlarmDocument(TypedDict):
    """`id` null: it could not be written down yet, because the database does not answer.

    `where` and `what` are the line of `bin/supervisor-manager check`, `remedy` what it says to do, `command` the same
    when it can be typed. `page`: where one does it in the console. `host`: who sees it, null when everybody does.
    """

    id: int | None
    kind: str
    severity: Severity
    where: str
    what: str
    remedy: str
    command: str | None
    page: str | None
    values: dict[str, Any]
    host: str | None
    since: str
    times: int
    closed_at: str | None
    acknowledged: Acknowledgement | None


class EventDocument(TypedDict):
    """`kind`: opened, again, closed, told, told closed, acknowledged, reminded; `who` did it, or was told."""

    at: str
    kind: str
    who: str
    until: str | None


class AlarmWithEvents(AlarmDocument):
    """An alarm with all that happened to it."""

    events: list[EventDocument]


class Alarms(TypedDict):
    """`at`: when it was looked, null when nobody has looked yet. `mute`: what could not be asked then.

    `open`: how many are not acknowledged.
    """

    at: str | None
    open: int
    mute: list[str]
    alarms: list[AlarmDocument]


class Silence(TypedDict):
    """For how long nobody wants to hear of it; without it, until it is over."""

    minutes: NotRequired[Annotated[int | None, {"minimum": 1, "maximum": LONGEST_MINUTES}]]


@routes.get("")
@describes("What needs somebody, the worst first", Alarms)
def every() -> dict[str, Any]:
    seen = resources().watcher.fresh()
    if seen is None:
        return {"at": None, "open": 0, "mute": [], "alarms": []}
    return {
        "at": iso(seen.at), "open": len(seen.loud()), "mute": sorted(seen.mute),
        "alarms": [document(one) for one in seen.alarms],
    }  # fmt: skip


@routes.get("/history")
@describes(
    "Alarms that are over, the newest first", list[AlarmDocument],
    query={
        "limit": whole_number(1, LARGEST_PAGE, "how many", PAGE),
        "before": whole_number(1, LARGEST_ID, "only those with a lower id: the next page"),
    },
    headers=PAGED,
)  # fmt: skip
def history() -> Response:
    limit, before = whole("limit", PAGE, LARGEST_PAGE), whole("before", LARGEST_ID, LARGEST_ID)
    found = over(resources().db, limit + 1, before)
    answer = jsonify([document(one) for one in found[:limit]])
    return linked(answer, limit=limit, before=found[limit - 1].id if len(found) > limit else None)


@routes.get(AT_ALARM)
@describes("One alarm, with whom it was told and who acknowledged it", AlarmWithEvents)
def one(alarm_id: int) -> dict[str, Any]:
    db = resources().db
    return {**document(find_alarm(db, alarm_id)), "events": _events(events_of(db, [alarm_id])[alarm_id])}


@routes.post(f"{AT_ALARM}/acknowledge")
@describes("Somebody knows: it does not count and is not told for so long", AlarmDocument, takes=Silence)
def known(alarm_id: int) -> AlarmDocument:
    minutes = json_object("minutes").get("minutes")
    if minutes is not None and not (type(minutes) is int and 1 <= minutes <= LONGEST_MINUTES):
        raise Problem(400, "invalid", f"minutes must be a whole number from 1 to {LONGEST_MINUTES:,}", "minutes")
    return document(acknowledged(alarm_id, minutes))


@routes.post(f"{AT_ALARM}/remind")
@describes("Take an acknowledgement back", AlarmDocument)
def again(alarm_id: int) -> AlarmDocument:
    return document(reminded(alarm_id))


def acknowledged(alarm_id: int, minutes: int | None) -> Alarm:
    """Acknowledge as the present caller, for so long; raises NotFound."""
    here = resources()
    now = here.db.now_ms()
    until = None if minutes is None else now + minutes * 60_000
    found = acknowledge(here.db, alarm_id, _who(), until, now)
    tell(f"{found.where}: {found.what} ({'until it is over' if until is None else f'for {minutes} min'})")
    here.watcher.reread()
    return found


def reminded(alarm_id: int) -> Alarm:
    """Take it back as the present caller; raises NotFound."""
    here = resources()
    found = remind(here.db, alarm_id, _who(), here.db.now_ms())
    tell(f"{found.where}: {found.what}")
    here.watcher.reread()
    return found


def document(alarm: Alarm) -> AlarmDocument:
    """What the API says of one."""
    at = alarm.acknowledged_at
    return {
        "id": alarm.id, "kind": alarm.kind, "severity": Severity(alarm.severity), "where": alarm.where,
        "what": alarm.what, "remedy": alarm.remedy, "command": alarm.command or None, "page": page_of(alarm),
        "values": dict(alarm.values), "host": alarm.place.partition(" ")[0] or None,
        "since": iso(alarm.opened_at) or "", "times": alarm.times, "closed_at": iso(alarm.closed_at),
        "acknowledged": None if at is None else {
            "by": alarm.acknowledged_by or "", "at": iso(at) or "", "until": iso(alarm.silent_until),
        },
    }  # fmt: skip


#: Where in the console one sees to each kind; filled in with its values.
_PAGES = {
    "table": "/logs?name=queue-manager&level=warning",
    **dict.fromkeys(("supervisord", "supervisord_mute"), "/logs?name=supervisord"),
    **dict.fromkeys(("process_down", "process_dies"), "/logs?process={process}&level=warning"),
    **dict.fromkeys(("process_stopped", "worker_trouble"), "/logs?process={process}"),
    "silent": "/workers",
    **dict.fromkeys(("nobody", "backlog_stopped"), "/workers?queue={queue}"),
    "backlog": "/scaling?queue={queue}",
    "dead": "/dead?queue={queue}",
    "redis": "/logs?name=redis",
    "database": "/logs?level=warning&text=database",
    **dict.fromkeys(("server", "server_sender"), "/servers/{id}"),
    **dict.fromkeys(("campaign_paused", "campaign_failed", "campaign_blocked", "unknown"), "/campaigns/{id}"),
    "campaign_late": "/logs?name=scheduler",
    "expansion": "/logs?name=expand&campaign={id}",
    "schedules": "/schedules?standing=late",
}


def page_of(alarm: Alarm) -> str | None:
    """The console's page for it."""
    try:
        values = {name: quote(str(value), safe="") for name, value in alarm.values.items()}
        return _PAGES[alarm.kind].format(**values) if alarm.kind in _PAGES else None
    except KeyError:
        return None  # of another version


def _events(events: Iterable[Event]) -> list[EventDocument]:
    return [
        {
            "at": iso(event.at) or "", "kind": event.kind, "who": event.who,
            "until": iso(int(event.detail)) if event.kind == "acknowledged" and event.detail.isdigit() else None,
        }
        for event in events
    ]  # fmt: skip


def _who() -> str:
    known = caller()
    return ADMINISTRATOR if known.session else f"token {known.name}"
