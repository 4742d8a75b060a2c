"""When a user is due: arithmetic on ms since 1970 UTC, nothing else.

A rhythm is an interval and one of its instants. Days, zones and summer time have no part in it. The claim
(`claims.py`) does the same arithmetic in SQL; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60_000
SHORTEST = 1
LONGEST = 1440


@dataclass(frozen=True)
class Due:
    """The next run. `rhythm_at`: where the rhythm goes on behind it; None when the next run is a part of it."""

    next_run_at: int
    rhythm_at: int | None = None

    def behind(self, interval: int) -> int:
        """The first instant of the rhythm behind the next run."""
        return self.next_run_at + interval if self.rhythm_at is None else self.rhythm_at

    def last(self, interval: int, now: int) -> int:
        """The last instant of the rhythm that is not after now."""
        return now - (now - self.behind(interval)) % interval


@dataclass(frozen=True)
class Claimed:
    """What a claim makes of a schedule: periods that were missed beside the one that runs, and what comes next."""

    skipped: int
    due: Due


def after_claim(due: Due, interval: int, now: int) -> Claimed:
    """A claim of what was due by `now`: the rhythm stays, what lies between is skipped."""
    behind = due.behind(interval)
    skipped = 0 if behind > now else (now - behind) // interval + 1
    return Claimed(skipped, Due(behind + skipped * interval))


def repaired(due: Due, interval: int, now: int, period: int | None) -> Due:
    """A schedule whose next run is too far away, because the clock went back: the same rhythm, from now on.

    The period that was claimed last is not run a second time when the clock reaches it again.
    """
    soon = due.last(interval, now) + interval
    return Due(soon + interval if soon == period else soon)


def with_interval(due: Due, interval: int, now: int, period: int | None) -> Due:
    """Another interval, counted from the period that was claimed last; overdue by it, it runs at once.

    A run that was asked for stays.
    """
    if period is None or period > now:
        soon = min(due.next_run_at, now + interval)
    else:
        last = period + (now - period) // interval * interval
        soon = last if last > period else last + interval
    return Due(soon) if due.rhythm_at is None or soon <= now else Due(due.next_run_at, soon)


def switched_on(due: Due, interval: int, now: int, period: int | None) -> Due:
    """On again after a while: the rhythm stays; what it missed is one run at once, and no skip."""
    last = due.last(interval, now)
    return Due(last if period is None or last > period else last + interval)


def due_now(due: Due, interval: int, now: int) -> Due:
    """Due at once, beside the rhythm: what is due already stays as it is."""
    if due.next_run_at <= now:
        return due
    return Due(now, due.last(interval, now) + interval)
