"""The clock that leases go by inside one machine, and how people read an instant."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def in_utc(ms: int) -> str:
    """An instant (ms since 1970 UTC) as people read it: 2026-11-22 14:03 UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


def since_boot() -> float:
    """Seconds since this machine booted, those included in which it was suspended.

    `time.monotonic` stands still in a suspended machine: by it, one that slept for two hours would
    think its leases as good as before.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)
