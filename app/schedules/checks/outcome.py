"""What one check of a target came to."""

from __future__ import annotations

from dataclasses import dataclass

from app.mail.exchange import Timing

#: Longest reason that is kept, in characters.
LONGEST = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """`error` is None for a target that is as it should be.

    `latency_ms`: all of it, redirects included. `certificate_until`: ms since 1970 UTC. `final`: asking again at
    once would bring the same.
    """

    error: str | None
    latency_ms: int
    timing: Timing
    status_code: int | None = None
    certificate_until: int | None = None
    final: bool = False

    @property
    def ok(self) -> bool:
        return self.error is None


def quoted(text: str) -> str:
    """A stranger's text between quotes: short, on one line, no control characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return f"“{line[:80]}…”" if len(line) > 80 else f"“{line}”"
