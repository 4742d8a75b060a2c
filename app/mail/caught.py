"""The mails that the local catcher accepted: one SQLite file, written by it, read by anyone.

A mail is in here before its sender reads the 250, so what was promised can be counted.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any, NamedTuple

SCHEMA = """
CREATE TABLE IF NOT EXISTS mail (
    id INTEGER PRIMARY KEY,
    received_at INTEGER NOT NULL,   -- Unix time in milliseconds
    envelope_from TEXT NOT NULL,
    message_id TEXT,
    subject TEXT,                   -- decoded
    campaign TEXT,                  -- X-Mailcrew-Campaign as it came: campaign, dot, a key of the message
    size INTEGER NOT NULL,
    content BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS mail_campaign ON mail (campaign);
CREATE TABLE IF NOT EXISTS rcpt (
    mail_id INTEGER NOT NULL REFERENCES mail (id),
    address TEXT NOT NULL,
    PRIMARY KEY (mail_id, address)
) WITHOUT ROWID;
"""

# The header's value is "18.<key>", and "/" is the character after ".".
OF_CAMPAIGN = "(campaign = :campaign OR campaign >= :campaign || '.' AND campaign < :campaign || '/')"

CAMPAIGN_HEADER = "X-Mailcrew-Campaign"
WANTED_HEADER = re.compile(
    rb"^(message-id|subject|x-mailcrew-campaign)[ \t]*:((?:.*\r?\n?)(?:[ \t].*\r?\n?)*)", re.I | re.M
)


@dataclass(frozen=True)
class Arrived:
    """One accepted mail on its way into the file."""

    received_at: int
    envelope_from: str
    recipients: tuple[str, ...]
    content: bytes


class Verdict(NamedTuple):
    """What arrived of one campaign; `duplicates` are the addresses that got it more than once."""

    mails: int
    recipients: int
    duplicates: tuple[tuple[str, int], ...]


class CaughtMailWriter:
    """The catcher's side; one writer a file."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        # NORMAL survives the end of our process, which is what a demonstration needs, and costs no fsync.
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + SCHEMA)
        self._next = int(self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM mail").fetchone()[0])

    def add(self, arrived: Sequence[Arrived]) -> None:
        """Keep these mails, all or none; committed on return."""
        first = self._next
        mails = [(first + n, *_row(mail)) for n, mail in enumerate(arrived)]
        recipients = [
            (first + n, address) for n, mail in enumerate(arrived) for address in dict.fromkeys(mail.recipients)
        ]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany("INSERT INTO mail VALUES (?,?,?,?,?,?,?,?)", mails)
            self._db.executemany("INSERT INTO rcpt VALUES (?,?)", recipients)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._next = first + len(mails)

    def close(self) -> None:
        self._db.close()


class CaughtMail:
    """The reading side: what arrived, counted while the catcher goes on; no file yet means nothing arrived."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def count(self, message_id: str = "%") -> int:
        """How many mails have a Message-ID LIKE this one."""
        return int(
            self._rows("SELECT count(*) FROM mail WHERE coalesce(message_id, '') LIKE :like", like=message_id)[0][0]
        )

    def recipients(self, campaign: str) -> list[str]:
        """Every address that got this campaign, once each, in alphabetical order."""
        rows = self._rows(
            f"SELECT DISTINCT address FROM mail JOIN rcpt ON mail_id = id WHERE {OF_CAMPAIGN} ORDER BY address",
            campaign=campaign,
        )
        return [row[0] for row in rows]

    def duplicates(self, campaign: str) -> list[tuple[str, int]]:
        """The addresses that got this campaign more than once, and how often."""
        rows = self._rows(
            f"SELECT address, count(*) FROM mail JOIN rcpt ON mail_id = id WHERE {OF_CAMPAIGN}"
            " GROUP BY address HAVING count(*) > 1 ORDER BY address",
            campaign=campaign,
        )
        return [(row[0], row[1]) for row in rows]

    def mails(self, campaign: str) -> int:
        """How many mails of this campaign arrived."""
        return int(self._rows(f"SELECT count(*) FROM mail WHERE {OF_CAMPAIGN}", campaign=campaign)[0][0])

    def _rows(self, statement: str, **values: str) -> list[Any]:
        # A new connection each time: the verdict is asked for rarely, perhaps before the file is there.
        # An absent file is an empty one in memory, so that the counts need no second way.
        source = f"file:{_quoted(self._path)}?mode=ro" if self._path.exists() else ":memory:"
        with closing(sqlite3.connect(source, uri=True, timeout=30)) as db:
            if source == ":memory:":
                db.executescript(SCHEMA)
            return db.execute(statement, values).fetchall()


def verdict(path: Path, campaign: str) -> Verdict:
    """What arrived of the campaign with this id (or this whole header value)."""
    caught = CaughtMail(path)
    return Verdict(
        mails=caught.mails(campaign),
        recipients=len(caught.recipients(campaign)),
        duplicates=tuple(caught.duplicates(campaign)),
    )


def headers_of(content: bytes) -> dict[str, str]:
    """Message-ID, Subject (decoded) and campaign header, by lower-case name; the first of each counts."""
    head = content.partition(b"\r\n\r\n")[0]
    found: dict[str, str] = {}
    for match in WANTED_HEADER.finditer(head):
        value = re.sub(r"\r?\n", "", match[2].decode("utf-8", "replace")).strip()
        found.setdefault(match[1].decode("ascii").lower(), value)
    if "=?" in found.get("subject", ""):
        found["subject"] = _decoded(found["subject"])
    return found


def _decoded(value: str) -> str:
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return value  # Badly encoded: as it came is the best that can be shown.


def _row(mail: Arrived) -> tuple[int, str, str | None, str | None, str | None, int, bytes]:
    headers = headers_of(mail.content)
    return (
        mail.received_at,
        mail.envelope_from,
        headers.get("message-id"),
        headers.get("subject"),
        headers.get(CAMPAIGN_HEADER.lower()),
        len(mail.content),
        mail.content,
    )


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
