"""What servers said of the mails that did not get through, and how much each server took."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from app.db import Db
from app.models.states import RecipientState

#: Only the newest so many batches with such a recipient are read: a page must not read a million rows.
NEWEST_BATCHES = 100
UNSUCCESSFUL = (RecipientState.FAILED, RecipientState.UNKNOWN, RecipientState.SKIPPED)

_ADDRESS = re.compile(r"<?[^\s<>@,;:]+@[^\s<>@,;]+[^\s<>@,;.]>?")
#: An instant, an address of the internet, a time of day, how long somebody has to wait.
_PASSING = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b"
    r"|(?<![\w:])(?=[0-9a-fA-F:]*\d)(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])"
    r"|\b\d+(?= ?(?:s|sec|second|min|minute|hour)s?\b)"
)
#: Queue names and the like: long, with a digit in them.
_MARK = re.compile(r"\b(?=[\w.-]*\d)(?=[\w.-]*[A-Za-z])[\w-]{8,}[\w.-]*")
_LONG_NUMBER = re.compile(r"\b\d{5,}\b")


@dataclass(frozen=True)
class Reply:
    """Recipients in one state for the same reason, addresses and marks in it left out."""

    state: str
    reason: str
    count: int


@dataclass(frozen=True)
class Share:
    """What one server did for a campaign."""

    server: str
    attempts: int
    sent: int
    failed: int
    deferred: int
    unknown: int


def replies_of(db: Db, campaign_id: int, most: int = 20) -> tuple[list[Reply], bool]:
    """The commonest reasons first; True when only the newest of many were looked at."""
    holding = db.rows(
        "SELECT number FROM batches WHERE campaign_id = ? AND failed + unknown + skipped > 0 "
        "ORDER BY number DESC LIMIT ?",
        campaign_id, NEWEST_BATCHES + 1,
    )  # fmt: skip
    numbers = [int(row[0]) for row in holding]
    chosen = numbers[:NEWEST_BATCHES]
    if not chosen:
        return [], False
    counts: Counter[tuple[str, str]] = Counter()
    for state, reason, count in db.rows(
        f"SELECT r.state, r.reason, COUNT(*) FROM recipients r{db.by_batch} WHERE r.campaign_id = ? "
        f"AND r.batch IN ({', '.join('?' * len(chosen))}) AND r.state IN (?, ?, ?) GROUP BY r.state, r.reason",
        campaign_id, *chosen, *UNSUCCESSFUL,
    ):  # fmt: skip
        counts[state, without_marks(reason or "")] += int(count)
    found = [Reply(state, reason, count) for (state, reason), count in counts.most_common(most)]
    return found, len(numbers) > NEWEST_BATCHES


def shares_of(db: Db, campaign_id: int) -> list[Share]:
    """What each server did for a campaign, the busiest first."""
    rows = db.rows(
        "SELECT s.name, SUM(d.attempts), SUM(d.sent), SUM(d.failed), SUM(d.deferred), SUM(d.unknown) FROM deliveries d "
        "JOIN servers s ON s.id = d.server_id WHERE d.campaign_id = ? GROUP BY s.name ORDER BY 2 DESC, 1",
        campaign_id,
    )
    return [Share(str(row[0]), *(int(value) for value in row[1:])) for row in rows]


def without_marks(reason: str) -> str:
    """A reply as it would be to anybody at any time: without addresses, instants, queue names and long numbers."""
    text = _PASSING.sub("…", _ADDRESS.sub("…", " ".join(reason.split())))
    return _LONG_NUMBER.sub("…", _MARK.sub("…", text))
