"""What many viewers look at is made once: the work a second does not grow with their number."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = TypeVar("Value")

#: Different things kept at a time; those not asked for longest go first.
MOST_KEPT = 256
#: A value lives so many times longer than it takes to make, and no longer than so many seconds for that reason.
SHARE, LONGEST = 20, 30.0


@dataclass
class _Kept(Generic[Value]):
    lock: threading.Lock = field(default_factory=threading.Lock)
    made_at: float = float("-inf")
    took: float = 0.0
    failed_at: float = float("-inf")
    failure: Exception | None = None
    value: Value | None = None


class Shared(Generic[Value]):
    """A value for each key; one caller makes it while the others wait for it.

    It is kept for so many seconds, and longer when making it takes long: so no more than a twentieth of the time
    goes into it. But not for ever: a machine that stood still while it was made says nothing of the next time.
    """

    def __init__(self, seconds: float, most: int = MOST_KEPT) -> None:
        self._seconds, self._most = seconds, most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Kept[Value]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of this key. What `make` raises is raised, to those who waited for it too, and nothing is kept."""
        asked = time.monotonic()
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        with kept.lock:
            begun = time.monotonic()
            if kept.failure is not None and kept.failed_at >= asked:
                # One who tries again for each of them would have the last wait for all.
                raise kept.failure
            if kept.value is None or begun - kept.made_at >= max(self._seconds, min(LONGEST, SHARE * kept.took)):
                kept.value = self._made(kept, make)
                kept.made_at = time.monotonic()
                kept.took = kept.made_at - begun
            return kept.value

    @staticmethod
    def _made(kept: _Kept[Value], make: Callable[[], Value]) -> Value:
        try:
            return make()
        except Exception as error:
            kept.failure, kept.failed_at = error, time.monotonic()
            raise

    def forget(self) -> None:
        """Make everything anew: somebody has changed something and wants to see it."""
        with self._lock:
            self._kept.clear()
