"""The signals that stop a worker: the first one counts, all others are told of and ignored."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType

from app.events import emit
from app.workers.stopping import in_hand, request_stop

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def register_signals(busy: Callable[[], int], *, program: str, queues: list[str], threads: int) -> None:
    """`busy()` is how many tasks are in hand."""
    # Acted on by a thread of its own: logging takes locks that the interrupted code may hold, and
    # SimpleQueue.put is the one hand-over that may interrupt itself.
    received: SimpleQueue[int] = SimpleQueue()

    def act() -> None:
        while True:
            _stop(received.get(), busy())

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.put(number)

    threading.Thread(target=act, name="signals", daemon=True).start()
    for number in SIGNALS:
        signal.signal(number, on_signal)
    emit(
        "Signal handlers registered (SIGTERM, SIGINT, SIGQUIT)",
        pid=os.getpid(), program=program, queues=queues, threads=threads,
    )  # fmt: skip


def _stop(number: int, busy: int) -> None:
    name = signal.Signals(number).name
    if not request_stop(name):
        emit("signal ignored: already stopping", signal=name, signal_number=number)
        return
    emit(
        "Worker received shutdown signal", signal=name, signal_number=number, pid=os.getpid(),
        campaign_id=in_hand.stopped_in, is_processing=busy > 0,
        plan="will exit after current job completes" if busy else "exiting gracefully",
    )  # fmt: skip
