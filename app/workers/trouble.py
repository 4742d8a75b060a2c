"""What keeps this process from working, told in its heartbeat: a log line alone would be found too late."""

from __future__ import annotations

import threading
import time

#: A trouble that was not told again for so long, in seconds, has passed.
PASSED_SECONDS = 30.0
LONGEST = 300


class Troubles:
    """The troubles of a process, by what they keep it from. For any thread."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def tell(self, what: str, reason: str) -> None:
        """`what` does not work for this reason; an empty one: it works again."""
        with self._lock:
            if reason:
                self._told[what] = (time.monotonic(), reason[:LONGEST])
            else:
                self._told.pop(what, None)

    def text(self, monotonic: float | None = None) -> str:
        """All of them that were told lately in one phrase; empty when there is none."""
        now = time.monotonic() if monotonic is None else monotonic
        with self._lock:
            lately = [f"{what}: {reason}" for what, (at, reason) in self._told.items() if now - at < PASSED_SECONDS]
        return "; ".join(lately)


troubles = Troubles()
