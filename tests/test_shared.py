"""What many look at is made once."""

from __future__ import annotations

import threading
import time

import pytest

from app.web.shared import MOST_KEPT, Shared
from tests.working import eventually


def test_many_callers_at_once_make_one_value() -> None:
    shared: Shared[int] = Shared(60)
    made: list[int] = []
    gate = threading.Barrier(20)
    seen: list[int] = []

    def make() -> int:
        made.append(1)
        return len(made)

    def look() -> None:
        gate.wait()
        seen.append(shared.get("key", make))

    threads = [threading.Thread(target=look) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), seen) == (1, [1] * 20)


def test_a_value_that_is_old_is_made_again_and_so_is_one_that_was_forgotten() -> None:
    brief: Shared[object] = Shared(0)
    old = brief.get(1, object)
    eventually(lambda: brief.get(1, object) is not old, "it is made again")
    kept: Shared[object] = Shared(60)
    first = kept.get(1, object)
    assert kept.get(1, object) is first
    assert kept.get(2, object) is not first
    kept.forget()
    assert kept.get(1, object) is not first


def test_a_value_that_takes_long_to_make_is_kept_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    shared: Shared[object] = Shared(0)

    def slow() -> object:
        # Waited for by the clock that the keeping goes by.
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            time.sleep(0.05)
        return object()

    first = shared.get(1, slow)
    assert shared.get(1, slow) is first, "for ten seconds"
    monkeypatch.setattr("app.web.shared.LONGEST", 0.0)
    assert shared.get(1, slow) is not first, "and not for ever"


def test_what_cannot_be_made_is_not_kept() -> None:
    shared: Shared[int] = Shared(60)

    def broken() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shared.get(1, broken)
    assert shared.get(1, lambda: 5) == 5


def test_those_who_waited_for_what_failed_do_not_try_again_one_by_one() -> None:
    shared: Shared[int] = Shared(60)
    tried: list[int] = []
    failed: list[int] = []
    gate = threading.Barrier(8)
    waiting = threading.Semaphore(0)

    def broken() -> int:
        tried.append(1)
        if len(tried) == 1:
            for _ in range(8):
                assert waiting.acquire(timeout=60)
            time.sleep(0.2)  # the others are a step before the lock, which nobody can see
        raise ZeroDivisionError

    def look() -> None:
        gate.wait()
        waiting.release()
        try:
            shared.get("key", broken)
        except ZeroDivisionError:
            failed.append(1)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 8
    assert len(tried) < 8


def test_no_more_is_kept_than_allowed() -> None:
    shared: Shared[object] = Shared(60)
    first = shared.get("first", object)
    for number in range(MOST_KEPT):
        shared.get(number, object)
    assert shared.get("first", object) is not first
