"""When a recipient whose server said "later" (4xx) is tried again."""

from __future__ import annotations

from collections.abc import Iterable

from app.campaigns.batches import Mail

#: Waiting time after the first, second … try, in seconds: RFC 5321 §4.5.4.1 asks for 30 minutes
#: in the long run; greylisting is usually over sooner. The last one repeats.
BACKOFF = (60, 300, 1800, 3600, 7200, 21_600, 43_200, 86_400)


def due_at(attempts: int, tried_at: int | None) -> int:
    """The instant (ms) at which a recipient may be tried; 0: at once."""
    if attempts == 0 or tried_at is None:
        return 0
    return tried_at + 1000 * BACKOFF[min(attempts, len(BACKOFF)) - 1]


def split_due(mails: Iterable[Mail], now: int) -> tuple[list[Mail], list[Mail]]:
    """(those that may be tried now, those that still have to wait)."""
    due: list[Mail] = []
    waiting: list[Mail] = []
    for mail in mails:
        (due if due_at(mail.attempts, mail.tried_at) <= now else waiting).append(mail)
    return due, waiting
