"""Ask services that may be frozen, all at once, and wait no longer than promised."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from app.db.connection import DatabaseTrouble
from app.errors import MailcrewError, Unavailable
from app.queues.broker import RedisTrouble

T = TypeVar("T")


class Asked(Generic[T]):
    """One question, asked on a thread of its own from the moment this is made."""

    def __init__(self, who: str, ask: Callable[[], T]) -> None:
        self._who = who
        self._value: list[T] = []
        self._error: Exception | None = None
        self._ended = threading.Event()
        # A daemon: a service that never answers must not keep this process from ending.
        threading.Thread(target=self._run, args=(ask,), name=f"ask-{who}", daemon=True).start()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def answer(self, deadline: float) -> T:
        """What it said by `deadline` (monotonic); raises Unavailable with a reason for people."""
        if not self._ended.wait(max(0.0, deadline - time.monotonic())):
            raise Unavailable(f"{self._who} does not answer in time")
        if self._error is None:
            return self._value[0]
        if isinstance(self._error, MailcrewError):
            raise Unavailable(str(self._error)) from self._error
        if isinstance(self._error, (*RedisTrouble, *DatabaseTrouble, OSError)):
            raise Unavailable(f"{self._who} does not answer ({_reason(self._error)})") from self._error
        raise self._error

    def _run(self, ask: Callable[[], T]) -> None:
        try:
            self._value.append(ask())
        except Exception as error:
            self._error = error
        finally:
            self._ended.set()


class Asker(Generic[T]):
    """Asks the same again and again: while a frozen service holds one question, no second is asked."""

    def __init__(self, who: str, ask: Callable[[], T]) -> None:
        self._who, self._ask = who, ask
        self._pending: Asked[T] | None = None

    def begin(self) -> Asked[T]:
        if self._pending is None or self._pending.ended:
            self._pending = Asked(self._who, self._ask)
        return self._pending


def _reason(error: Exception) -> str:
    return " ".join(str(error.args[-1] if error.args else error).split())
