"""What the whole process shares: the flag that says stop, why, and which campaign is in hand."""

from __future__ import annotations

import threading
from collections.abc import Callable

#: Set: no new work, finish what is in hand. Everything in a worker that waits, waits on this.
stop_requested = threading.Event()
#: The reason of a stop whose flag was set without one: the sending side does that and tells of it itself.
UNNAMED = "a batch could not be recorded"


class InHand:
    """`campaign()` is the id of a campaign this process works on, None when there is none."""

    def __init__(self) -> None:
        self.campaign: Callable[[], int | None] = lambda: None
        #: Why this process stops, once it does, and the campaign it was in.
        self.stop_reason = ""
        self.stopped_in: int | None = None

    def note_stop(self, reason: str) -> None:
        """Remember reason and campaign of a stop; the first one counts."""
        if not self.stop_reason:
            self.stop_reason = reason
            self.stopped_in = self.campaign()


in_hand = InHand()
_asking = threading.Lock()


def request_stop(reason: str) -> bool:
    """Ask this process to stop; False when it had been asked before."""
    with _asking:
        if stop_requested.is_set():
            return False
        in_hand.note_stop(reason)
        stop_requested.set()
        return True
