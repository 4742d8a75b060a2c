"""What the database knows of mails that were tried: for counting again after Redis lost its counters."""

from __future__ import annotations

from collections.abc import Sequence

from app.db import Db
from app.db.parts import marks, parts
from app.models.states import BatchState


class History:
    """Reads the attempts of each minute, and the leases under which more may be going on."""

    def __init__(self, db: Db) -> None:
        self._db = db

    def attempts(self, server_id: int, since: int) -> list[tuple[int, int]]:
        """(minute since 1970, mails tried in it) from minute `since` on, in order."""
        rows = self._db.rows(
            "SELECT minute, SUM(attempts) FROM deliveries WHERE server_id = ? AND minute >= ? "
            "GROUP BY minute ORDER BY minute",
            server_id, since,
        )  # fmt: skip
        return [(int(minute), int(count)) for minute, count in rows]

    def open_leases(self, server_id: int) -> list[str]:
        """The tokens of the leased batches that may be sent over the server."""
        rows = self._db.rows(
            "SELECT b.token FROM batches b JOIN campaign_servers c ON c.campaign_id = b.campaign_id "
            "WHERE b.state = ? AND c.server_id = ?",
            BatchState.LEASED, server_id,
        )  # fmt: skip
        return [str(row[0]) for row in rows]

    def still_open(self, leases: Sequence[str]) -> tuple[int, int]:
        """How many of these leases are open, and how many mails their batches had pending when they were leased."""
        count = pending = 0
        for some in parts(leases):
            row = self._db.row(
                f"SELECT COUNT(*), COALESCE(SUM(pending), 0) FROM batches WHERE state = ? AND token IN ({marks(some)})",
                BatchState.LEASED, *some,
            )  # fmt: skip
            count, pending = count + int(row[0]) if row else 0, pending + int(row[1]) if row else 0
        return count, pending
