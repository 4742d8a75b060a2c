"""Time limits: an exception in the thread of a task that takes too long, and a list of those that stay blocked.

Dramatiq's own raises outside its lock: its exception may come after the task, in the middle of an
acknowledgement. Here nothing is raised any more once `finished` was called.
"""

from __future__ import annotations

import ctypes
import threading
import time
from dataclasses import dataclass
from typing import Any

from dramatiq.middleware import Middleware
from dramatiq.middleware.time_limit import TimeLimitExceeded

LOOK_SECONDS = 0.25


@dataclass
class _Running:
    deadline: float
    interrupted_at: float | None = None


class TimeLimits(Middleware):
    """`seconds` is the limit of actors that set none; the option `time_limit` (ms) of an actor or a message wins."""

    def __init__(self, seconds: float = 600.0) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._running: dict[int, _Running] = {}

    @property
    def actor_options(self) -> set[str]:
        return {"time_limit"}

    def after_process_boot(self, _broker: Any) -> None:
        threading.Thread(target=self._watch, name="time-limits", daemon=True).start()

    def before_process_message(self, broker: Any, message: Any) -> None:
        actor = broker.actors.get(message.actor_name)
        own = message.options.get("time_limit") or (actor.options.get("time_limit") if actor else None)
        seconds = own / 1000 if own else self.seconds
        with self._lock:
            self._running[threading.get_ident()] = _Running(time.monotonic() + seconds)

    def after_process_message(self, _broker: Any, _message: Any, **_outcome: Any) -> None:  # type: ignore[override]
        self.finished()

    def after_skip_message(self, _broker: Any, _message: Any) -> None:
        self.finished()

    def finished(self) -> None:
        """The task of this thread has ended: from here on it is not interrupted. May itself be interrupted, once."""
        with self._lock:
            running = self._running.pop(threading.get_ident(), None)
            if running and running.interrupted_at is not None:
                _raise_in(threading.get_ident(), None)

    def interrupt_overdue(self, now: float) -> None:
        """Raise TimeLimitExceeded, once each, in the threads whose time was over at `now` (monotonic)."""
        with self._lock:
            for thread, running in self._running.items():
                if running.interrupted_at is None and now >= running.deadline:
                    running.interrupted_at = now
                    _raise_in(thread, TimeLimitExceeded)

    def blocked(self, now: float, patience: float) -> list[int]:
        """Ids of the threads whose task still runs `patience` seconds after it was interrupted."""
        with self._lock:
            return [
                thread
                for thread, running in self._running.items()
                if running.interrupted_at is not None and now - running.interrupted_at >= patience
            ]

    def _watch(self) -> None:
        while True:
            self.interrupt_overdue(time.monotonic())
            time.sleep(LOOK_SECONDS)


def _raise_in(thread: int, exception: type[BaseException] | None) -> None:
    """Raise in another thread at its next bytecode; None takes back what has not been raised yet."""
    what = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)
