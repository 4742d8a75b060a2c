"""What was asked of an SMTP server over time, from the counts of each minute."""

from __future__ import annotations

from dataclasses import dataclass

from app.db import Db
from app.mail.limits.days import day_starts
from app.models.states import CAMPAIGN_OPEN

MINUTE_MS = 60_000


@dataclass(frozen=True)
class Counts:
    """Mails tried, and what came of them; a mail that is tried again counts again."""

    attempts: int = 0
    sent: int = 0
    failed: int = 0
    deferred: int = 0
    unknown: int = 0


def counts_since(db: Db, server_id: int, since: int) -> Counts:
    """From the minute of `since` (ms) on."""
    row = db.row(
        "SELECT SUM(attempts), SUM(sent), SUM(failed), SUM(deferred), SUM(unknown) FROM deliveries "
        "WHERE server_id = ? AND minute >= ?",
        server_id, since // MINUTE_MS,
    )  # fmt: skip
    return Counts(*(int(value or 0) for value in row or ()))


def today_began(timezone: str, now: int) -> int:
    """The instant (ms) at which the present day began in a server's zone."""
    return day_starts(timezone, now)[1]


def counts_today(db: Db, servers: list[tuple[int, str]], now: int) -> dict[int, Counts]:
    """Of each of these (id, zone), since midnight there."""
    return {id_: counts_since(db, id_, today_began(timezone, now)) for id_, timezone in servers}


def open_campaigns(db: Db) -> dict[int, list[int]]:
    """The ids of the campaigns that are not over, by the servers that they may use."""
    found: dict[int, list[int]] = {}
    for server_id, campaign_id in db.rows(
        "SELECT u.server_id, c.id FROM campaigns c JOIN campaign_servers u ON u.campaign_id = c.id "
        f"WHERE c.status IN ({', '.join('?' * len(CAMPAIGN_OPEN))}) ORDER BY c.id",
        *sorted(CAMPAIGN_OPEN),
    ):
        found.setdefault(int(server_id), []).append(int(campaign_id))
    return found
