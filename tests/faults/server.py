"""The SMTP server of a fault run: counts, keeps a pace, and does wrong what the row wants."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from tests.smtp_faults import Event, Fault, Mail
from tests.smtp_server import SmtpServer


class CountingServer(SmtpServer):
    """`pace`: seconds before each final reply. `misdeed(event)` may spoil a step until `calm` is set."""

    def __init__(self, pace: float, misdeed: Callable[[Event], Fault | None], on_fault: Callable[[str], None]) -> None:
        super().__init__(plan=self._decide)
        self.pace, self._misdeed, self._on_fault = pace, misdeed, on_fault
        self.calm = threading.Event()
        self.accepted: Counter[str] = Counter()
        self.accepted_at: list[float] = []
        #: Whoever was refused with 5xx, so that being `failed` is right.
        self.refused: set[str] = set()
        #: Lines cut when the client may have handed over the whole mail: each may leave one recipient unknown.
        #: A cut inside a small content counts: the client's kernel had taken the dot, so it cannot tell.
        self.cut_after_dot = 0
        self.misdeeds = 0

    def accept(self, mail: Mail) -> None:
        with self._lock:
            self.accepted_at.append(time.monotonic())
            self.accepted.update(mail.recipients)

    def heard(self, connection: int, line: str) -> None:
        """Not kept: there are many."""

    def _decide(self, event: Event) -> Fault | None:
        fault = None if self.calm.is_set() else self._misdeed(event)
        if fault:
            self._note(event, fault)
        if event.verb == "DOT":
            return replace(fault or Fault(), delay=self.pace + (fault.delay if fault else 0))
        return fault

    def _note(self, event: Event, fault: Fault) -> None:
        self._on_fault("SMTP " + (fault.reply[:3] if fault.reply else "trouble"))
        with self._lock:
            self.misdeeds += 1
            if fault.after_bytes is not None or (event.verb == "DOT" and (fault.silent or fault.drop == "before")):
                self.cut_after_dot += 1
            if event.verb in ("RCPT", "DATA", "DOT") and (fault.reply or "").startswith("5"):
                self.refused.add(event.recipient)
