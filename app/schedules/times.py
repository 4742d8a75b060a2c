"""When a user is due: arithmetic on ms since 1970 UTC, nothing else.

A rhythm is an interval and one of its instants, `phase_at`, which is not after now. Days, zones and summer time
have no part in it. The claim (`claims.py`) does the same arithmetic in SQL; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60_000
SHORTEST = 1
LONGEST = 1440


@dataclass(frozen=True)
class Due:
    """The next run, and an instant of the rhythm not after now."""

    next_run_at: int
    phase_at: int


@dataclass(frozen=True)
class Claimed:
    """What a claim makes of a schedule: periods that were missed beside the one that runs, and what comes next."""

    skipped: int
    due: Due


def at_once(now: int, interval: int) -> Due:
    """A new schedule: due now, and from then on every `interval` ms."""
    return Due(now, now - interval)


def after_claim(due: Due, interval: int, now: int) -> Claimed:
    """A claim of what was due by `now`: the rhythm stays, what lies between is skipped."""
    last = due.phase_at + (now - due.phase_at) // interval * interval
    return Claimed((last - due.next_run_at + interval - 1) // interval, Due(last + interval, last))


def repaired(next_run_at: int, interval: int, now: int, period: int | None) -> Due:
    """A schedule whose next run is too far away, because the clock went back: the same rhythm, from now on.

    The period that was claimed last is not run a second time when the clock reaches it again.
    """
    soon = next_run_at - (next_run_at - now - 1) // interval * interval
    return Due(soon + interval if soon == period else soon, soon - interval)


def with_interval(due: Due, interval: int, now: int, period: int | None) -> Due:
    """Another interval, counted from the period that was claimed last; overdue by it, it runs at once."""
    if period is None or period > now:
        soon = min(due.next_run_at, now + interval)
        return Due(soon, soon - interval)
    last = period + (now - period) // interval * interval
    return Due(last if last > period else last + interval, last)


def switched_on(due: Due, interval: int, now: int, period: int | None) -> Due:
    """On again after a while: the rhythm stays; what it missed is one run at once, and no skip."""
    last = due.phase_at + (now - due.phase_at) // interval * interval
    return Due(last if period is None or last > period else last + interval, last)


def due_now(due: Due, interval: int, now: int) -> Due:
    """Due at once, beside the rhythm: what is due already stays as it is."""
    return Due(min(due.next_run_at, now), due.phase_at + min(0, (now - due.phase_at) // interval) * interval)
