"""When a recipient whose server said "later" (4xx) is tried again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.campaigns.mails import Mail

#: Seconds of a minute of RETRY_MINUTES.
MINUTE = 60.0


def backoff(minutes: Sequence[int]) -> tuple[float, ...]:
    """The waiting times after the first, second … try, in seconds; the last one repeats."""
    return tuple(MINUTE * one for one in minutes)


def due_at(attempts: int, tried_at: int | None, waits: Sequence[float]) -> int:
    """The instant (ms) at which a recipient may be tried; 0: at once. `waits`: see `backoff`."""
    if attempts == 0 or tried_at is None:
        return 0
    return tried_at + int(1000 * waits[min(attempts, len(waits)) - 1])


def split_due(mails: Iterable[Mail], now: int, waits: Sequence[float]) -> tuple[list[Mail], list[Mail]]:
    """(those that may be tried now, those that still have to wait)."""
    due: list[Mail] = []
    waiting: list[Mail] = []
    for mail in mails:
        (due if due_at(mail.attempts, mail.tried_at, waits) <= now else waiting).append(mail)
    return due, waiting
