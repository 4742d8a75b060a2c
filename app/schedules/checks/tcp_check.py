"""Connect to a port; where a text is expected, wait until the other end has said it."""

from __future__ import annotations

import threading
import time

from app.errors import AddressRefused, Unavailable
from app.mail.exchange import Line, Timing, Way
from app.mail.outgoing import Budget, connect, resolve_public
from app.schedules.checks.outcome import Outcome, quoted
from app.schedules.checks.target import Wanted

#: Bytes that are read while waiting for the text.
LARGEST_BANNER = 64 * 1024
_PART = 4096


def check_tcp(wanted: Wanted, way: Way, stop: threading.Event) -> Outcome:
    """One check, within the target's time; raises Stopped."""
    timing, began = Timing(), time.monotonic()
    error, final = None, False
    try:
        error = _ask(wanted, way, Budget(wanted.timeout_seconds, stop), timing)
    except AddressRefused as refused:
        error, final = str(refused), True
    except Unavailable as problem:
        error = str(problem)
    except TimeoutError:
        error = f"no answer within {wanted.timeout_seconds} s"
    except OSError as dropped:
        error = f"{wanted.host}:{wanted.port} dropped the connection: {dropped.strerror or dropped}"
    return Outcome(error, round((time.monotonic() - began) * 1000), timing, final=final)


def _ask(wanted: Wanted, way: Way, budget: Budget, timing: Timing) -> str | None:
    """What is wrong, None when nothing is."""
    assert wanted.host is not None
    assert wanted.port is not None
    with timing.step("resolve"):
        endpoints = resolve_public(wanted.host, wanted.port, way.allow_private, budget=budget, resolve=way.resolve)
    with timing.step("connect"):
        line = Line(connect(endpoints, budget), budget)
    try:
        return _listen(line, wanted.keyword, wanted.timeout_seconds, timing) if wanted.keyword is not None else None
    finally:
        line.hang_up()


def _listen(line: Line, keyword: str, seconds: int, timing: Timing) -> str | None:
    heard, buffer = bytearray(), bytearray(_PART)
    ended = "the connection was closed"
    try:
        while len(heard) < LARGEST_BANNER:
            with timing.step("first_byte"):
                count = line.receive_into(buffer)
            if not count:
                break
            heard += buffer[:count]
            if keyword.encode() in heard:
                return None
        else:
            ended = f"{LARGEST_BANNER // 1024} KiB had come"
    except TimeoutError:
        ended = f"{seconds} s were over"
    said = f"it said {quoted(heard.decode('utf-8', 'replace'))}" if heard else "it said nothing"
    return f"the text {quoted(keyword)} had not come when {ended}; {said}"
