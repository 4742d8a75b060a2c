"""Hold campaigns back while none of their servers may send, so that no worker leases what it cannot send.

A hold is two columns of the campaign: until when, and by what. Whoever finds every server of a campaign refusing
writes it, in one conditional UPDATE; leasing, tickets and housekeeping pass over held campaigns. All other campaigns
that have no other server than those share the hold, so that they need not find out one by one, and all come back at
the same instant: the one whose turn it is goes first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from app.db import Db
from app.events import emit
from app.mail.gate import Gate
from app.mail.servers import Usable
from app.models.states import CampaignStatus

#: A hold that lasts longer than this is looked at again once it is written, in ms: servers may just have changed.
LONG_MS = 1_000
#: Holds that are over sooner than this, in ms, are told of once in a minute, not each second.
SHORT_MS = 10_000
TELL_SECONDS = 60.0


class Holder:
    """Holds campaigns for the threads of one process. `wake_at(ms)`: there will be work again then."""

    def __init__(self, db: Db, gate: Gate, wake_at: Callable[[int], object]) -> None:
        self._db = db
        self._gate = gate
        self._wake_at = wake_at
        self._lock = threading.Lock()
        self._told: dict[tuple[int, str], tuple[float, int]] = {}

    def hold(
        self,
        campaign_id: int,
        until: int,
        reason: str,
        *,
        server: Usable | None,
        limit: bool,
        blocked: Sequence[int],
        seen: Sequence[Usable],
        sender: str,
        has_sent: bool,
    ) -> bool:
        """Hold a campaign until an instant (ms); False when it is held already.

        `server` and `reason`: what is free first; `limit`: that is well, and only has had enough. `blocked`: the
        servers that nobody may use now. `seen`: all of its servers as they were when that was found out.
        `has_sent`: the thread that asks had work until now, and will be needed again.
        """
        now = self._db.now_ms()
        if until <= now:
            return False
        held = self._db.run(
            "UPDATE campaigns SET held_until = ?, held_by = ? WHERE id = ? AND status = ? AND held_until <= ?",
            until, reason[:500], campaign_id, CampaignStatus.SENDING, now,
        )  # fmt: skip
        if held or has_sent:
            self._wake_at(until)
        if not held:
            return False
        self._tell(campaign_id, server, reason, limit, until, now)
        if blocked:
            self._hold_others(until, reason, blocked, now)
        if until - now > LONG_MS and self._gate.servers(campaign_id, sender, known_for=0) != list(seen):
            # A person changed a server meanwhile and has let go whoever was held then.
            self._db.run(
                "UPDATE campaigns SET held_until = 0, held_by = NULL WHERE held_until = ? AND held_by = ?",
                until, reason[:500],
            )  # fmt: skip
            self._wake_at(now)
        return True

    def _hold_others(self, until: int, reason: str, blocked: Sequence[int], now: int) -> None:
        """Hold the campaigns that can use no other server than these either."""
        marks = ", ".join("?" * len(blocked))
        self._db.run(
            "UPDATE campaigns SET held_until = ?, held_by = ? WHERE status = ? AND held_until <= ? "
            f"AND id IN (SELECT campaign_id FROM campaign_servers WHERE server_id IN ({marks})) "
            "AND NOT EXISTS (SELECT 1 FROM campaign_servers cs JOIN servers s ON s.id = cs.server_id "
            f"WHERE cs.campaign_id = campaigns.id AND s.state = 'active' AND s.id NOT IN ({marks}))",
            until, reason[:500], CampaignStatus.SENDING, now, *blocked, *blocked,
        )  # fmt: skip

    def _tell(self, campaign_id: int, server: Usable | None, reason: str, limit: bool, until: int, now: int) -> None:
        with self._lock:
            at, count = self._told.get((campaign_id, reason), (-TELL_SECONDS, 0))
            if until - now < SHORT_MS and time.monotonic() - at < TELL_SECONDS:
                self._told[campaign_id, reason] = (at, count + 1)
                return
            if len(self._told) > 1000:
                self._told.clear()
            self._told[campaign_id, reason] = (time.monotonic(), 0)
        emit(
            "rate limit" if limit else "campaign held",
            campaign_id=campaign_id, server=server.name if server else None, reason=reason,
            free_at=datetime.fromtimestamp(until / 1000, UTC).isoformat(timespec="milliseconds"),
            **({"holds_before": count} if count else {}),
        )  # fmt: skip
