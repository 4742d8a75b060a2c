"""Ask a service whether it answers, without waiting for it longer than promised."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping


class Probe:
    """Asks on a thread of its own, one at a time: a frozen service holds one thread, not one a caller."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._pending: _Attempt | None = None

    def begin(self) -> _Attempt:
        """The attempt under way, or a new one."""
        with self._lock:
            if self._pending is None or self._pending.ended.is_set():
                self._pending = _Attempt(self._ask)
            return self._pending


class _Attempt:
    def __init__(self, ask: Callable[[], object]) -> None:
        self.good = False
        self.ended = threading.Event()
        # A daemon: a service that never answers must not keep this process from ending.
        threading.Thread(target=self._run, args=(ask,), name="probe", daemon=True).start()

    def _run(self, ask: Callable[[], object]) -> None:
        try:
            ask()
            self.good = True
        except Exception:
            self.good = False  # whatever it is: it has not answered
        finally:
            self.ended.set()


def ask_all(probes: Mapping[str, Probe], seconds: float) -> dict[str, bool]:
    """Who answers within so many seconds; all are asked at once."""
    deadline = time.monotonic() + seconds
    attempts = {name: probe.begin() for name, probe in probes.items()}
    return {
        name: attempt.ended.wait(max(0.0, deadline - time.monotonic())) and attempt.good
        for name, attempt in attempts.items()
    }
