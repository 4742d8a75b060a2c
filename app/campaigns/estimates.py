"""How fast a campaign goes, and how long the rest takes: what was measured, and what limits leave of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.db import Db
from app.models.states import CAMPAIGN_EXPANDS
from app.models.tables import Campaign
from app.queues.recipients import measured_since, speed_of

#: Nothing is foretold beyond ten years.
LONGEST_SECONDS = 10 * 365 * 86_400

SPANS = (1, 60, 3600, 86_400)


@dataclass(frozen=True)
class ServerLimits:
    """Mails in each second, minute, hour and day; None: no limit of that kind."""

    per_second: int | None
    per_minute: int | None
    per_hour: int | None
    per_day: int | None

    def within(self, seconds: int) -> float:
        """How many may go in the next `seconds` at most, if nothing of the limits has been used."""
        return min((limit * (seconds // span + 1) for limit, span in self._spans()), default=math.inf)

    @property
    def steady(self) -> float:
        """How many may go a second in the long run."""
        return min((limit / span for limit, span in self._spans()), default=math.inf)

    def _spans(self) -> list[tuple[int, int]]:
        """Each limit that there is, and its span in seconds."""
        every = (self.per_second, self.per_minute, self.per_hour, self.per_day)
        return [(limit, span) for limit, span in zip(every, SPANS, strict=True) if limit is not None]


def limits_of(db: Db, campaign_id: int) -> list[ServerLimits]:
    """Those of the campaign's active servers."""
    rows = db.rows(
        "SELECT s.per_second, s.per_minute, s.per_hour, s.per_day FROM campaign_servers c "
        "JOIN servers s ON s.id = c.server_id WHERE c.campaign_id = ? AND s.state = 'active'",
        campaign_id,
    )
    return [ServerLimits(*row) for row in rows]


def rate_of(db: Db, campaign: Campaign, done: int, now: int) -> float:
    """Mails a second: of the last seconds, or of this minute and the last; of the whole run when it has ended.

    `done`: what it has sent and failed in all.
    """
    started = campaign.started_at or now
    if campaign.status not in CAMPAIGN_EXPANDS:
        return round(done * 1000 / max((campaign.finished_at or now) - started, 1000), 1)
    recent, minute = measured_since(now)
    batches, lately = db.rows(
        "SELECT COUNT(*), SUM(sent + failed) FROM batches WHERE campaign_id = ? AND finished_at >= ?",
        campaign.id, recent,
    )[0]  # fmt: skip
    in_minutes = db.value(
        "SELECT SUM(sent + failed) FROM deliveries WHERE campaign_id = ? AND minute >= ?", campaign.id, minute
    )
    return speed_of(int(batches), int(lately or 0), int(in_minutes or 0), started, now).per_second


def seconds_left(left: int, rate: float, held_seconds: float, limits: Sequence[ServerLimits]) -> float | None:
    """How long `left` mails take yet; None when nobody can tell.

    `held_seconds`: nothing may go before, because limits are used up. Then they go at the pace of the limits; before
    that at `rate` a second, but not faster than unused limits would let them.
    """
    if left <= 0:
        return None
    if held_seconds > 0:
        steady = sum(one.steady for one in limits)
        pace = min(steady, rate) if rate and math.isinf(steady) else steady
        seconds = held_seconds + left / pace if pace and math.isfinite(pace) else None
    else:
        seconds = max(left / rate, least_seconds(left, limits)) if rate else None
    return round(seconds, 1) if seconds is not None and seconds < LONGEST_SECONDS else None


def least_seconds(left: int, limits: Sequence[ServerLimits]) -> float:
    """In how many seconds `left` mails may go at best over servers with these limits, nothing of them used so far."""
    if not limits or sum(one.within(LONGEST_SECONDS) for one in limits) < left:
        return math.inf if limits else 0.0
    low, high = 0, LONGEST_SECONDS
    while low < high:
        middle = (low + high) // 2
        if sum(one.within(middle) for one in limits) >= left:
            high = middle
        else:
            low = middle + 1
    return float(low)
