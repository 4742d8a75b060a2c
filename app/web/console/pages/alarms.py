"""What needs somebody, since when and what to do; acknowledged for a while; and what is over."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from app.errors import UsageError
from app.watch.alarms import Alarm, events_of, find_alarm, over, place_of
from app.web.alarms import AT_ALARM, acknowledged, page_of, reminded
from app.web.campaigns import LARGEST_ID
from app.web.console.page import Page
from app.web.console.words import known, told
from app.web.query import whole
from app.web.resources import resources

page = Page("alarms", nav=("watch", 0))

PAGE = 30
#: For how long one can be quiet, in minutes, and the word for it; the first: until it is over.
SILENCES = (("", "until_over"), (60, "for_hour"), (480, "for_shift"), (1440, "for_day"), (10_080, "for_week"))


@page.live("/alarms")
def look() -> dict[str, Any]:
    seen = resources().watcher.fresh()
    loud = {one.key for one in seen.loud()} if seen else set()
    found = _over(LARGEST_ID)
    return {
        "seen": seen,
        "loud": [one for one in seen.alarms if one.key in loud] if seen else [],
        "quiet": [one for one in seen.alarms if one.key not in loud] if seen else [],
        "say": say, "do": do, "page_of": page_of, "silences": SILENCES,
        "here": place_of(resources().settings), **found,
    }  # fmt: skip


@page.get("/alarms/history", template="alarms_over")
def history() -> dict[str, Any]:
    return {"say": say, **_over(whole("before", LARGEST_ID, LARGEST_ID))}


@page.get(f"/alarms{AT_ALARM}", template="alarm")
def one(alarm_id: int) -> dict[str, Any]:
    db = resources().db
    alarm = find_alarm(db, alarm_id)
    return {"alarm": alarm, "events": events_of(db, [alarm_id])[alarm_id], "say": say, "do": do, "page_of": page_of}


@page.post(f"/alarms{AT_ALARM}/acknowledge")
def acknowledge(alarm_id: int) -> Response:
    said = request.form.get("minutes", "")
    if said not in {str(minutes) for minutes, _ in SILENCES}:
        raise UsageError(f"{said!r} is no time: choose one of the page's")
    acknowledged(alarm_id, int(said) if said else None)
    return page.done("/alarms", "alarms.was_acknowledged")


@page.post(f"/alarms{AT_ALARM}/remind")
def remind(alarm_id: int) -> Response:
    reminded(alarm_id)
    return page.done("/alarms", "alarms.was_reminded")


def say(alarm: Alarm) -> str:
    """What is wrong, in the visitor's language; one of another version as it was written down."""
    return _told("say", alarm) or f"{alarm.where}: {alarm.what}"


def do(alarm: Alarm) -> str:
    """What to do about it."""
    return _told("do", alarm) or alarm.remedy


def _told(which: str, alarm: Alarm) -> str:
    word = f"alarms.{which}_{alarm.kind}"
    if alarm.kind == "other" or not known(word):
        return ""
    try:
        return told(word, **alarm.values).strip()
    except (KeyError, IndexError):
        return ""


def _over(before: int) -> dict[str, Any]:
    db = resources().db
    found = over(db, PAGE + 1, before)
    shown = found[:PAGE]
    events = events_of(db, [one.id for one in shown if one.id])
    return {
        "over": shown,
        "told": {id_: sorted({one.who for one in mine if one.kind == "told"}) for id_, mine in events.items()},
        "more": shown[-1].id if len(found) > PAGE else None,
    }  # fmt: skip
