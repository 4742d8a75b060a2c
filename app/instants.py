"""Instants between people and the database: ISO 8601 with a zone outside, ms since 1970 UTC inside."""

from __future__ import annotations

from datetime import UTC, datetime

from app.errors import UsageError


def iso(ms: int | None) -> str | None:
    """An instant as ISO 8601 in UTC, None for none."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds") if ms is not None else None


def exact_iso(seconds: float) -> str:
    """An instant (seconds since 1970) as ISO 8601 in UTC, with its milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def parse_instant(text: str, option: str) -> int:
    """Ms since 1970 UTC of an ISO 8601 time; raises UsageError without a zone, for its meaning would be a guess."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option}={text!r} is no time: write it like 2026-11-23T09:00:00+08:00") from None
    if parsed.tzinfo is None:
        raise UsageError(f"{option}={text!r} has no time zone: add one, like {text}+08:00 or {text}Z")
    if not 1970 <= parsed.year <= 9998:
        raise UsageError(f"{option}={text!r} is in the past or too far away: a year from 1970 to 9998")
    return int(parsed.timestamp() * 1000)
