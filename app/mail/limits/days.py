"""Calendar days of a time zone, for the limits that go by them."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache

from app.errors import UsageError
from app.events import warn
from app.mail.when import zone


@lru_cache(maxsize=256)
def _starts(timezone: str, day: int) -> tuple[int, ...]:
    try:
        found = zone(timezone)
    except UsageError:
        warn("unknown time zone, days are counted in UTC", timezone=timezone)
        found = zone("UTC")
    first = datetime.fromordinal(day) - timedelta(days=1)
    # Where a day begins later than 0:00, because clocks are put forward then, this is the moment of doing so.
    return tuple(
        int((first + timedelta(days=later)).replace(tzinfo=found).timestamp()) * 1000 for later in range(4)
    )  # fmt: skip


def day_starts(timezone: str, now: int) -> tuple[int, ...]:
    """The first instants of yesterday, today, tomorrow and the day after at `now`, all in ms since 1970 UTC.

    An unknown zone counts as UTC.
    """
    around = datetime.fromtimestamp(now / 1000, zone("UTC")).toordinal()
    for day in (around, around - 1, around + 1):
        starts = _starts(timezone, day)
        if starts[1] <= now < starts[2]:
            return starts
    raise AssertionError(f"{now} is in no day of {timezone}")
