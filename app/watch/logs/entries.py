"""Entries of a log: a line with its instant, and the lines without one that stand behind it, like a traceback's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from app.watch.logs.files import Text
from app.watch.logs.lines import BLOCK, Piece, Skipped, backwards, forwards, whole_end

#: So many lines without an instant belong to one entry at most.
MOST_LINES = 400
#: A line with an instant is looked for in so many bytes.
REACH = 1_000_000

#: Our own lines; and those of supervisord and of Redis, in the machine's zone.
_OURS = re.compile(rb'\{"time": "([^"]{10,40})"')
SUPERVISORD = re.compile(rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) ([A-Z]{4}) (.*)")
REDIS = re.compile(rb"\d+:[A-Z] (\d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d)\.(\d{3}) ([.*#-]) (.*)")


@dataclass(slots=True)
class Raw:
    """An entry as it stands there. `at`: seconds since 1970; `more`: the lines behind its first."""

    at: float
    begin: int
    end: int
    line: bytes
    more: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Passed:
    """Entries that nobody wants, down to the offset `begin` and the instant `at`."""

    at: float
    begin: int


def instant_of(line: bytes) -> float | None:
    """The instant that a line begins with, in seconds since 1970; None when it belongs to the one before it."""
    try:
        if ours := _OURS.match(line):
            return datetime.fromisoformat(ours[1].decode()).timestamp()
        if line.startswith(b"{"):
            return datetime.fromisoformat(json.loads(line)["time"]).timestamp()
        if dated := SUPERVISORD.match(line):
            return datetime.strptime(dated[1].decode(), "%Y-%m-%d %H:%M:%S").timestamp() + int(dated[2]) / 1000
        if dated := REDIS.match(line):
            return datetime.strptime(dated[1].decode(), "%d %b %Y %H:%M:%S").timestamp() + int(dated[2]) / 1000
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # it only looks like one
    return None


def entries_back(text: Text, end: int, skip: Callable[[bytes], bool] | None = None) -> Iterator[Raw | Passed]:
    """The entries before `end`, the last first."""
    behind: list[Piece] = []
    # Lines in hand may belong to an entry of the next block, so that is not passed over.
    wanted = None if skip is None else lambda block: not behind and skip(block)
    at = float("inf")
    for piece in backwards(text, end, wanted):
        if isinstance(piece, Skipped):
            at = min(at, instant_of(piece.first) or at)
            yield Passed(at, piece.begin)
            continue
        own = instant_of(piece.raw)
        if own is None:
            behind.append(piece)
            if len(behind) >= MOST_LINES:
                yield from _without_instant(text, behind, at)
                behind.clear()
            continue
        at = own
        yield Raw(own, piece.begin, behind[0].end if behind else piece.end, piece.raw, [p.raw for p in behind[::-1]])
        behind.clear()
    yield from _without_instant(text, behind, at)


def entries_on(text: Text, begin: int, end: int) -> Iterator[Raw]:
    """The entries from `begin` to before `end`, in order."""
    at, entry = 0.0, None
    for piece in forwards(text, begin, end):
        own = instant_of(piece.raw)
        if own is None and entry is not None and len(entry.more) < MOST_LINES:
            entry.more.append(piece.raw)
            entry.end = piece.end
            continue
        if entry is not None:
            yield entry
        at = own or at or _instant_before(text, begin) or text.mtime_at(piece.begin)
        entry = Raw(at, piece.begin, piece.end, piece.raw)
    if entry is not None:
        yield entry


def locate(text: Text, at: float) -> int:
    """Where the first entry later than `at` begins; entries stand in the order of time."""
    low, found = 0, whole_end(text)
    if text.stream.mtime <= at:
        return found
    high = found
    while high - low > BLOCK:
        middle = (low + high) // 2
        begin, own = _first_instant(text, middle, high)
        if own is None or own > at:
            high, found = middle, begin if own is not None else found
        else:
            low = begin
    for piece in forwards(text, low, min(found, high + REACH)):
        own = instant_of(piece.raw)
        if own is not None and own > at:
            return piece.begin
    # Do its lines not say when they were written, then the last of them is later, and nobody knows of the others.
    return found if low or _first_instant(text, 0, found)[1] is not None else text.last_begin


def _first_instant(text: Text, begin: int, end: int) -> tuple[int, float | None]:
    """The first line with an instant that begins behind `begin`, or there if that is the very beginning."""
    for number, piece in enumerate(forwards(text, begin, min(end, begin + REACH))):
        if begin and not number:
            continue  # the rest of a line
        own = instant_of(piece.raw)
        if own is not None:
            return piece.begin, own
    return end, None


def _instant_before(text: Text, end: int) -> float | None:
    """The instant to which lines belong that begin at `end`."""
    for number, piece in enumerate(backwards(text, end)):
        if isinstance(piece, Piece) and (own := instant_of(piece.raw)):
            return own
        if number >= MOST_LINES:
            break
    return None


def _without_instant(text: Text, behind: list[Piece], at: float) -> Iterator[Raw]:
    """Lines of which nobody knows when they were written, each by itself, the last first: as old as their file."""
    for piece in behind:
        yield Raw(min(at, text.mtime_at(piece.begin)), piece.begin, piece.end, piece.raw)
