"""Time zones of servers, and instants in them as people read them."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from app.errors import UsageError

#: Nearer instants are shown with their seconds, in ms.
SOON_MS = 3_600_000

LOCALTIME = Path("/etc/localtime")
TIMEZONE_FILE = Path("/etc/timezone")


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """The zone of this name; raises UsageError when this machine's time zone database has none."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise UsageError(
            f"--timezone={name!r} is no time zone of this machine: write it like Asia/Singapore, Europe/Berlin or UTC"
        ) from None


def system_zone() -> str:
    """The name of this machine's zone; UTC when nothing tells."""
    try:
        linked = LOCALTIME.resolve(strict=True).as_posix()
    except OSError:
        linked = ""
    try:
        written = TIMEZONE_FILE.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        written = ""
    for name in (os.environ.get("TZ", "").lstrip(":"), linked.rpartition("/zoneinfo/")[2], written):
        try:
            if name:
                return zone(name).key
        except UsageError:
            continue
    return "UTC"


def shown_at(ms: int, timezone: str, now: int) -> str:
    """An instant like `2026-11-23 00:00 +08:00`: the zone's own time, to the minute; with seconds when it is near."""
    try:
        found = zone(timezone)
    except UsageError:
        found = zone("UTC")  # the database may have been written on a machine that knows more zones
    at = datetime.fromtimestamp(ms / 1000, found)
    if abs(ms - now) >= SOON_MS and (at.second or at.microsecond):
        at = at.replace(second=0, microsecond=0) + timedelta(minutes=1)
    if at.microsecond:
        at = at.replace(microsecond=0) + timedelta(seconds=1)
    offset = at.strftime("%z")
    return f"{at:%Y-%m-%d %H:%M}{f':{at:%S}' if at.second else ''} {offset[:3]}:{offset[3:5]}"
