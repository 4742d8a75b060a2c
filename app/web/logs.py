"""GET /api/logs: what all processes of this home log, as one list that is searched, paged and followed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, TypedDict

from flask import Blueprint, Response, jsonify, request

from app.db.connection import DatabaseTrouble
from app.errors import UsageError
from app.instants import exact_iso, parse_instant
from app.scaling.table import load_table
from app.watch.logs.cursor import LONGEST, Cursor, read_cursor
from app.watch.logs.files import Stream, group_pattern, streams
from app.watch.logs.masks import mask_of
from app.watch.logs.search import News, Page, news, page, present
from app.watch.logs.wanted import LEVELS, Entry, Mask, Wanted
from app.web.access import needs
from app.web.campaigns import LARGEST_ID
from app.web.errors import Problem
from app.web.openapi import PAGED, describes, whole_number
from app.web.query import linked, one_of, text, whole
from app.web.resources import resources

routes = Blueprint("logs", __name__)

PAGE = 200
LARGEST_PAGE = 1000
LONGEST_NAME = 200
LARGEST_PID = 2**31
#: Passwords that servers use are looked up this often at most, in seconds.
MASK_SECONDS = 60.0
#: Pages are large, so few are kept.
MOST_SHARED = 16
CONDITIONS = ("name", "process", "level", "event", "text", "campaign", "server", "pid", "since", "until")


class LogLine(TypedDict):
    """`stream`: stdout or stderr. `fields`: what a line of ours says beside what is named here, null of others.

    `text`: the line as it stands there. `traceback`: it, or the lines behind this one.
    """

    at: str
    process: str
    stream: str
    level: str
    event: str
    pid: int | None
    fields: dict[str, Any] | None
    text: str
    traceback: str


class LogPage(TypedDict):
    """`lines`: the newest first; what `after` asked for in the order of time.

    `after`: asked again with it, only what is new comes. `more`: something new would come at once. `before`: where the
    next older page begins. `looked_to`: the search was ended there before it had a whole page; `before` goes on.
    """

    lines: list[LogLine]
    after: str
    more: bool
    before: str | None
    looked_to: str | None


@dataclass(frozen=True)
class Asked:
    """What a caller wants to see. Instants in seconds since 1970."""

    name: str
    process: str
    wanted: Wanted
    since: float | None
    until: float | None

    def of(self, found: list[Stream]) -> list[Stream]:
        """The streams of the processes that are meant."""
        group = group_pattern(self.name) if self.name else None
        return [
            one
            for one in found
            if (not self.process or one.process == self.process) and (group is None or group.fullmatch(one.process))
        ]


@dataclass(frozen=True)
class Sighting:
    """The log files at one moment; `end` is where what is new begins."""

    at: float
    streams: list[Stream]
    end: Cursor


@routes.get("/api/logs")
@needs("admin")
@describes(
    "What all processes log, searched and followed", LogPage,
    query={
        "name": {"type": "string", "maxLength": LONGEST_NAME, "description": "a queue with its bursts, or a service"},
        "process": {"type": "string", "maxLength": LONGEST_NAME, "description": "one process, like send_00"},
        "level": {"enum": list(LEVELS), "description": "this one or a worse one"},
        "event": {"type": "string", "maxLength": 200, "description": "in what happened"},
        "text": {"type": "string", "maxLength": 200, "description": "anywhere in the line or its traceback"},
        "campaign": whole_number(1, LARGEST_ID, "of this campaign"),
        "server": {"type": "string", "maxLength": 100, "description": "about this SMTP server"},
        "pid": whole_number(1, LARGEST_PID, "of this process"),
        "since": {"type": "string", "maxLength": 40, "description": "an instant with its zone"},
        "until": {"type": "string", "maxLength": 40, "description": "an instant with its zone"},
        "limit": whole_number(1, LARGEST_PAGE, "how many", PAGE),
        "before": {"type": "string", "maxLength": LONGEST, "description": "older ones: from the page before"},
        "after": {"type": "string", "maxLength": LONGEST, "description": "newer ones: from an earlier answer"},
    },
    headers=PAGED,
)  # fmt: skip
def every() -> Response:
    asked, limit = asked_for(), whole("limit", PAGE, LARGEST_PAGE)
    before, after = cursor("before"), cursor("after")
    if before and after:
        raise Problem(400, "invalid", "before and after do not go together", "after")
    if after:
        new = what_is_new(asked, after, limit)
        return jsonify(document(new.entries, new.cursor, more=new.more))
    end, found = a_page(asked, before, limit)
    answer = jsonify(document(found.entries, end, found))
    return linked(answer, **conditions(), limit=limit, before=str(found.older) if found.older else None)


def asked_for() -> Asked:
    """What the present request's query says; raises Problem."""
    server = text("server", 100)
    return Asked(
        name=text("name", LONGEST_NAME), process=text("process", LONGEST_NAME), since=_instant("since"),
        until=_instant("until"),
        wanted=Wanted(
            level=one_of("level", LEVELS), event=text("event", 200), text=text("text", 200),
            campaign=_number("campaign", LARGEST_ID), server=server, server_id=_number_of(server),
            pid=_number("pid", LARGEST_PID),
        ),
    )  # fmt: skip


def cursor(name: str) -> Cursor | None:
    """The cursor in the present request's query; raises Problem."""
    given = text(name, LONGEST)
    try:
        return read_cursor(given, name) if given else None
    except UsageError as error:
        raise Problem(400, "invalid", str(error), name) from None


def sighting() -> Sighting:
    """The log files as they are now, at most a second old: the same for all who look."""
    directory = resources().settings.logs

    def look() -> Sighting:
        now = time.time()
        found = streams(directory)
        return Sighting(now, found, present(found, now))

    seen: Sighting = resources().shared("log files").get(None, look)
    return seen


def a_page(asked: Asked, before: Cursor | None, limit: int) -> tuple[Cursor, Page]:
    """A page of what is wanted, and where what is new begins; the first page is read once for all who want the same."""

    def make() -> tuple[Cursor, Page]:
        seen = sighting()
        found = page(
            asked.of(seen.streams), asked.wanted, limit, cursor=before, since=asked.since, until=asked.until,
            mask=_mask(),
        )  # fmt: skip
        return seen.end, found

    if before:
        return make()
    made: tuple[Cursor, Page] = resources().shared("log pages", most=MOST_SHARED).get((asked, limit), make)
    return made


def conditions() -> dict[str, str]:
    """What the present request's query says of the lines that are wanted, as it was said."""
    return {name: request.args[name] for name in CONDITIONS if request.args.get(name)}


def what_is_new(asked: Asked, after: Cursor, limit: int) -> News:
    """What was written behind a cursor, read once for all who are at the same place; nothing is when nothing was."""
    seen = sighting()
    if str(after) == str(seen.end):
        return News([], seen.end, more=False)

    def make() -> News:
        found = asked.of(seen.streams)
        new = news(found, asked.wanted, limit, after, now=seen.at, mask=_mask())
        # All who have seen everything are at the same place, whichever processes they look at.
        return new if new.more else News(new.entries, seen.end, more=False)

    made: News = resources().shared("log news", most=MOST_SHARED).get((asked, str(after), seen.at, limit), make)
    return made


def document(entries: list[Entry], end: Cursor, found: Page | None = None, *, more: bool = False) -> dict[str, Any]:
    """What the API says of a page or of what is new."""
    looked_to = found.looked_to if found else None
    return {
        "lines": [_line(entry) for entry in entries],
        "after": str(end),
        "more": more,
        "before": str(found.older) if found and found.older else None,
        "looked_to": exact_iso(looked_to) if looked_to else None,
    }


def names() -> list[str]:
    """What one can choose: the queues and services of the table, and whoever else has logs here."""
    here = resources()
    try:
        table = load_table(here.settings.table_of(here.root))
        known = [*(queue.name for queue in table.queues), *(service.name for service in table.services)]
    except UsageError:
        known = []  # a mistake in the table must not hide the logs that tell of it
    groups = [group_pattern(name) for name in known]
    others = {one.process for one in sighting().streams if not any(group.fullmatch(one.process) for group in groups)}
    return known + sorted(others)


def _line(entry: Entry) -> LogLine:
    return {
        "at": exact_iso(entry.at), "process": entry.process, "stream": "stderr" if entry.kind == "err" else "stdout",
        "level": entry.level, "event": entry.event, "pid": entry.pid, "fields": entry.fields, "text": entry.text,
        "traceback": entry.more,
    }  # fmt: skip


def _mask() -> Mask:
    here = resources()

    def make() -> Mask:
        try:
            rows = here.db.rows("SELECT password_env FROM servers WHERE password_env IS NOT NULL")
            variables = [str(name) for (name,) in rows]
        except DatabaseTrouble:
            variables = []  # the logs must be seen just then
        return mask_of(here.settings, variables)

    made: Mask = here.shared("log secrets", MASK_SECONDS).get(None, make)
    return made


def _number(name: str, high: int) -> int | None:
    """A number in the query; a field of the form that was left empty asks for nothing."""
    return whole(name, 0, high) if request.args.get(name) else None


def _number_of(server: str) -> int | None:
    """The id of a server, which is all that some lines know of it."""
    try:
        found = resources().db.value("SELECT id FROM servers WHERE name = ?", server) if server else None
    except DatabaseTrouble:
        return None  # its lines that have the name are found all the same
    return None if found is None else int(found)


def _instant(name: str) -> float | None:
    given = text(name, 40)
    try:
        return parse_instant(given, name) / 1000 if given else None
    except UsageError as error:
        raise Problem(400, "invalid", str(error), name) from None
