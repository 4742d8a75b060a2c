"""What the whole process shares: the flag that says stop, why, and which campaign is in hand."""

from __future__ import annotations

import threading
from collections.abc import Callable

#: Set: no new work, finish what is in hand. Everything in a worker that waits, waits on this.
stop_requested = threading.Event()


class InHand:
    """`campaign()` is the id of a campaign this process works on, None when there is none."""

    def __init__(self) -> None:
        self.campaign: Callable[[], int | None] = lambda: None
        #: Why this process stops, once it does.
        self.stop_reason = ""


in_hand = InHand()


def request_stop(reason: str) -> bool:
    """Ask this process to stop; False when it had been asked before."""
    if stop_requested.is_set():
        return False
    in_hand.stop_reason = reason
    stop_requested.set()
    return True
