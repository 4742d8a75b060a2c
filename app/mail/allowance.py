"""A server's limits for mails that belong to no campaign: notices and tests of servers."""

from __future__ import annotations

from app.db import Db
from app.errors import LimitsUnavailable
from app.mail.limits import Block, Limiter, Limits, Refusal

#: In `deliveries`, what is no campaign's.
NO_CAMPAIGN = 0
MINUTE_MS = 60_000


class Allowance:
    """One token for one mail over one server of ours; given back, or written down as tried.

    Without Redis the mail goes all the same: it may be what tells somebody that Redis is away.
    """

    def __init__(self, db: Db, limiter: Limiter | None) -> None:
        self._db = db
        self._limiter = limiter
        self._block: Block | None = None

    def take(self, server_id: int, name: str, limits: Limits) -> Refusal | None:
        """Take a token; why there is none now."""
        if self._limiter is None:
            return None
        try:
            got = self._limiter.reserve(server_id, name, limits, 1)
        except LimitsUnavailable:
            return None
        if isinstance(got, Refusal):
            return got
        got.take()
        self._block = got
        return None

    def give_back(self) -> None:
        """The mail was not tried."""
        if self._block:
            self._block.put_back()
        self._settle()

    def used(self, server_id: int, *, sent: bool) -> None:
        """The mail was tried: limits that are counted again from the database count it too."""
        if self._block:
            self._block.answered()
        self._settle()
        result = "sent" if sent else "failed"
        values = (server_id, self._db.now_ms() // MINUTE_MS, NO_CAMPAIGN)
        counted = f"attempts = attempts + 1, {result} = {result} + 1"
        tail = (
            f" ON DUPLICATE KEY UPDATE {counted}"
            if self._db.dialect == "mysql"
            else f" ON CONFLICT (server_id, minute, campaign_id) DO UPDATE SET {counted}"
        )
        self._db.run(
            f"INSERT INTO deliveries (server_id, minute, campaign_id, attempts, {result}) VALUES (?, ?, ?, 1, 1){tail}",
            *values,
        )

    def _settle(self) -> None:
        block, self._block = self._block, None
        if block and self._limiter:
            self._limiter.give_back(block)
