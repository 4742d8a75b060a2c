"""The clock that leases go by inside one machine."""

from __future__ import annotations

import time


def since_boot() -> float:
    """Seconds since this machine booted, those included in which it was suspended.

    `time.monotonic` stands still in a suspended machine: by it, one that slept for two hours would
    think its leases as good as before.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)
