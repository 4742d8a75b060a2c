"""Instants and durations on the command line."""

from __future__ import annotations

from app.instants import iso, parse_instant

__all__ = ["duration", "iso", "parse_instant"]


def duration(seconds: float | None) -> str:
    """A duration for people: 8 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return "unknown"
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
