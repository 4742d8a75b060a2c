"""What the limiter speaks of: limits, tokens in hand, refusals, usage."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.clock import since_boot

#: `Block.left` of a server without limits.
UNLIMITED = sys.maxsize
#: The windows by which tokens are counted, in the order of the scripts. The first three slide; the last is a
#: calendar day.
WINDOWS = ("second", "minute", "hour", "day")
#: How long tokens of a sliding window may be used, in seconds: 1.5 % of it.
USE_SECONDS = {"second": 0.015, "minute": 0.9, "hour": 54.0}


@dataclass(frozen=True, slots=True)
class Limits:
    """How many mails may go in any second, minute and hour, and in a calendar day of `timezone`; None: no limit."""

    per_second: int | None = None
    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    timezone: str = "UTC"

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return any(limit is not None for _, limit in self)

    def __iter__(self) -> Iterator[tuple[str, int | None]]:
        """The limits by window."""
        return zip(WINDOWS, (self.per_second, self.per_minute, self.per_hour, self.per_day), strict=True)

    @property
    def use_seconds(self) -> float:
        """How long tokens may be used after they were reserved: 1.5 % of the shortest window with a limit."""
        spans = (USE_SECONDS[name] for name, limit in self if limit is not None and name in USE_SECONDS)
        return min(spans, default=USE_SECONDS["hour"])


@dataclass(frozen=True, slots=True)
class DomainRule:
    """Limits for mails to a domain, at each server: "gmail.com", or "*.example.com" for its subdomains.

    The limits' own timezone means nothing: a day is that of the server. Tries before `since` (ms since 1970,
    when the rule was made) do not count.
    """

    domain: str
    limits: Limits
    since: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """Whose tokens: those of a server, those of a domain there, or both; what has no limits is not asked."""

    server_id: int
    name: str
    limits: Limits
    rule: DomainRule | None = None

    @property
    def use_seconds(self) -> float:
        """How long its tokens may be used after they were reserved."""
        seconds = self.limits.use_seconds
        return min(seconds, self.rule.limits.use_seconds) if self.rule else seconds

    @property
    def by_day(self) -> bool:
        """Whether a limit for the day is among its limits."""
        return self.limits.per_day is not None or (self.rule is not None and self.rule.limits.per_day is not None)


@dataclass(frozen=True, slots=True)
class Grant:
    """Where Redis counted a block: the counters' epoch, and the instants (in µs) of windows and of the day."""

    epoch: str
    at: int
    day_at: int


@dataclass(slots=True)
class Block:
    """Tokens in hand, one a mail. For one thread.

    `use_by` is in seconds by `app.clock.since_boot`: a token is used when its mail's content goes out, and
    not after that instant. inf, and `left` is UNLIMITED, for a server without limits. `late`: mails whose answer
    came after it, of which the limiter has not heard yet.
    """

    request: Request
    left: int
    use_by: float = math.inf
    grant: Grant | None = field(default=None)
    late: int = 0

    @property
    def server_id(self) -> int:
        return self.request.server_id

    @property
    def expired(self) -> bool:
        """Whether its tokens may not be used any more; `Limiter.exchange` gives fresh ones for them."""
        return since_boot() >= self.use_by

    def take(self) -> bool:
        """Take one token; False when none is left. Whether it has expired is asked when the content goes."""
        if self.left < 1:
            return False
        if self.grant:
            self.left -= 1
        return True

    def put_back(self) -> None:
        """Put back a token that was taken from this very block and not used."""
        if self.grant:
            self.left += 1

    def answered(self) -> bool:
        """Note the answer to a mail that used a token; whether it was late.

        Between content and answer nobody knows when the server counted it. A late one is counted anew, as of now.
        """
        late = self.expired
        self.late += late
        return late


@dataclass(frozen=True, slots=True)
class Refusal:
    """No token now. `free_at`: ms since 1970 by Redis's clock; `reason`: "second limit of server ses-1"."""

    free_at: int
    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a server's limits is used: tokens by "second", "minute", "hour", "day".

    `blocked_by` (a reason as in Refusal) and `free_at` (ms since 1970) are None when it can send.
    """

    used: dict[str, int]
    can_send: bool
    blocked_by: str | None
    free_at: int | None
