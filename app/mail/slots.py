"""The connections of this process to servers that allow only so many, kept known to all other workers."""

from __future__ import annotations

import secrets
import threading

from app.errors import LimitsUnavailable
from app.events import warn
from app.mail.limits import Connections

#: How often the slots are renewed, in seconds: after Redis lost them, others learn only by it that they are taken.
RENEW_SECONDS = 1.0


class ConnectionSlots:
    """A slot is taken before connecting and released after hanging up. Its thread starts with the first slot."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._process = secrets.token_hex(8)
        self._count = 0
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, server_id: int, most: int) -> str | None:
        """The holder's name of a slot; None when all `most` are taken. Raises LimitsUnavailable."""
        with self._lock:
            self._count += 1
            holder = f"{self._process}:{self._count}"
        if not self._connections.take(server_id, most, holder):
            return None
        with self._lock:
            self._held.add(holder)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="connection-slots", daemon=True)
                self._thread.start()
        return holder

    def kept(self, holder: str) -> bool:
        """Whether the slot is still ours: Redis may have lost it, and another worker taken it."""
        return holder in self._held

    def release(self, holder: str) -> None:
        with self._lock:
            ours = holder in self._held
            self._held.discard(holder)
        if ours:
            self._connections.release(holder)

    def close(self) -> None:
        """End the thread; every slot has been released."""
        self._closed.set()
        if self._thread:
            self._thread.join()

    def renew(self) -> None:
        """Keep what is held, as the thread does each second."""
        with self._lock:
            held = set(self._held)
        if not held:
            return
        try:
            lost = self._connections.renew(held)
        except LimitsUnavailable:
            return  # they last for a while, and taking one tells of it
        if lost:
            warn("connection slots were lost", count=len(lost))
            with self._lock:
                self._held -= lost

    def _run(self) -> None:
        while not self._closed.wait(RENEW_SECONDS):
            self.renew()
