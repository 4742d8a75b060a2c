"""Find subscribers among a million: by the beginning of an address, of a name, or of a later word of a name.

Three ways, one after another, each in the order of its index, so that a page costs what it shows. Only the
third reads more: the index of names from where it stands, until the page is full. A page begins where the
last one ended, so what changes meanwhile is neither shown twice nor left out.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass

from app.db import Db
from app.db.parts import lower_bound
from app.errors import UsageError

#: Past so many subscribers later words of names are not looked for: reading the index would take seconds.
MOST_READ = 3_000_000
#: Behind every text that begins with another one.
LAST = "\U0010ffff"
LONGEST = 320

_COLUMNS = "s.id, s.email, s.name, s.status"


@dataclass(frozen=True, slots=True)
class Found:
    """A subscriber as lists show them."""

    id: int
    email: str
    name: str
    status: str


@dataclass(frozen=True, slots=True)
class Page:
    """`after` leads to the next page, None on the last."""

    found: list[Found]
    after: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: behind the subscriber `id` with this key, in one of the ways."""

    way: int
    key: str
    id: int


def search(db: Db, text: str, *, limit: int, after: str | None = None) -> Page:
    """The subscribers whose address or name begins so, or a later word of whose name does.

    Without a text: all, the newest first. Raises UsageError for an `after` that is none of ours.
    """
    wanted = " ".join(text.split())[:LONGEST]
    start = read_place(after) if after else None
    if not wanted:
        return _newest(db, limit, start)
    found: list[tuple[Place, Found]] = []
    for way, look in enumerate((_by_address, _by_name, _by_later_word)):
        if start is not None and way < start.way:
            continue
        here = start if start is not None and way == start.way else Place(way, "", 0)
        for key, one in look(db, wanted, here, limit + 1 - len(found)):
            found.append((Place(way, key, one.id), one))
        if len(found) > limit:
            break
    return _page(found, limit)


def members(db: Db, list_id: int, status: str, *, limit: int, after: str | None = None) -> Page:
    """The members of a list in this status, in the order of their ids; raises UsageError as `search` does."""
    start = read_place(after).id if after else 0
    rows = db.rows(
        f"SELECT {_COLUMNS} FROM memberships m JOIN subscribers s ON s.id = m.subscriber_id "
        "WHERE m.list_id = ? AND m.status = ? AND m.subscriber_id > ? ORDER BY m.subscriber_id LIMIT ?",
        list_id, status, start, limit + 1,
    )  # fmt: skip
    return _page([(Place(0, "", int(row[0])), Found(*row)) for row in rows], limit)


def _newest(db: Db, limit: int, start: Place | None) -> Page:
    rows = db.rows(
        f"SELECT {_COLUMNS} FROM subscribers s WHERE s.id < ? ORDER BY s.id DESC LIMIT ?",
        start.id if start else 2**63 - 1, limit + 1,
    )  # fmt: skip
    return _page([(Place(0, "", int(row[0])), Found(*row)) for row in rows], limit)


def _page(found: list[tuple[Place, Found]], limit: int) -> Page:
    more = len(found) > limit
    return Page([one for _, one in found[:limit]], written(found[limit - 1][0]) if more else None)


Keyed = tuple[str, Found]


def _by_address(db: Db, text: str, start: Place, limit: int) -> Iterator[Keyed]:
    wanted = text.casefold()
    above, first = lower_bound(wanted, start.key)
    rows = db.rows(
        f"SELECT s.email_key, {_COLUMNS} FROM subscribers s WHERE s.email_key {above} ? "
        "AND s.email_key < ? ORDER BY s.email_key LIMIT ?",
        first, wanted + LAST, limit,
    )  # fmt: skip
    return ((str(key), Found(*row)) for key, *row in rows)


def _by_name(db: Db, text: str, start: Place, limit: int) -> Iterator[Keyed]:
    for wanted in _spellings(text):
        end, found = wanted + LAST, 0
        if start.key >= end:
            continue
        here = start if start.key >= wanted else Place(start.way, "", 0)
        for one in _walk(db, "name_key >= ? AND name_key < ?", (wanted, end), text, here, limit):
            found += 1
            yield one
        limit -= found


def _by_later_word(db: Db, text: str, start: Place, limit: int) -> Iterator[Keyed]:
    if "@" in text:
        return  # an address, which no later word of a name is: the whole index would be read for nothing
    if int(db.value("SELECT MAX(id) FROM subscribers") or 0) > MOST_READ:
        return
    spellings = _spellings(text)
    holds = " OR ".join("INSTR(name_key, ?) > 0" for _ in spellings)
    seen = " OR ".join("name_key >= ? AND name_key < ?" for _ in spellings)
    values = [f" {wanted}" for wanted in spellings]
    ranges = [end for wanted in spellings for end in (wanted, wanted + LAST)]
    yield from _walk(db, f"({holds}) AND NOT ({seen})", (*values, *ranges), text, start, limit)


def _spellings(text: str) -> list[str]:
    """What a folded name may begin with: SQLite folds ASCII only, so there other letters stay as they were written."""
    written = {text, text.lower(), text.upper(), text.title()}
    return sorted({one.translate(_ASCII_LOWER) for one in written} if not text.isascii() else {text.lower()})


_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _walk(db: Db, condition: str, values: tuple[str, ...], text: str, start: Place, limit: int) -> Iterator[Keyed]:
    """Those whose `name_key` fulfils the condition, in its order, but for whom their address is found already."""
    address, key, last = text.casefold(), start.key, start.id
    while limit > 0:
        # First the rest of those called like the last one: for them the condition holds as it did for that one.
        rows = db.rows(
            f"SELECT s.name_key, s.email_key, {_COLUMNS} FROM subscribers s WHERE s.name_key = ? AND s.id > ? "
            "ORDER BY s.id LIMIT ?",
            key, last, limit,
        ) if key else []  # fmt: skip
        if len(rows) < limit:
            # The inner part reads nothing but the index of names.
            rows += db.rows(
                f"SELECT k.name_key, s.email_key, {_COLUMNS} FROM (SELECT id, name_key FROM subscribers "
                f"WHERE name_key > ? AND {condition} ORDER BY name_key, id LIMIT ?) k "
                "JOIN subscribers s ON s.id = k.id ORDER BY k.name_key, k.id",
                key, *values, limit - len(rows),
            )  # fmt: skip
        asked, shown = limit, [row for row in rows if not str(row[1]).startswith(address)]
        limit -= len(shown)
        yield from ((str(row[0]), Found(*row[2:])) for row in shown)
        if len(rows) < asked:
            return
        key, last = str(rows[-1][0]), int(rows[-1][2])


def written(place: Place) -> str:
    """A place as callers pass it on, and bring it back."""
    return urlsafe_b64encode(json.dumps([place.way, place.key, place.id]).encode()).decode().rstrip("=")


def read_place(after: str) -> Place:
    """The place that was written so; raises UsageError for what is none of ours."""
    try:
        way, key, id_ = json.loads(urlsafe_b64decode(after.encode("ascii") + b"=" * (-len(after) % 4)))
        str(key).encode()  # half a character can be written in JSON, and in no database
    except (ValueError, TypeError):
        way, key, id_ = None, None, None
    if not (type(way) is int and type(id_) is int and isinstance(key, str) and 0 <= way <= 2 and 0 <= id_ < 2**63):
        raise UsageError(f"after={after[:40]!r} leads nowhere: take it from the last page as it is")
    return Place(way, key, id_)
