"""Check a target. A failure is looked at a second time after a moment: one lost packet is no failure."""

from __future__ import annotations

import threading

from app.mail.exchange import Way
from app.mail.outgoing import Stopped
from app.schedules.checks.http_check import check_http
from app.schedules.checks.outcome import Outcome
from app.schedules.checks.target import Wanted
from app.schedules.checks.tcp_check import check_tcp

#: Seconds between the two looks.
PAUSE = 3.0


def check(wanted: Wanted, way: Way, stop: threading.Event, pause: float = PAUSE) -> Outcome:
    """What a target's check came to; raises Stopped when it was not carried out to its end."""
    first = check_once(wanted, way, stop)
    if first.ok or first.final:
        return first
    if stop.wait(pause):
        raise Stopped
    return check_once(wanted, way, stop)


def check_once(wanted: Wanted, way: Way, stop: threading.Event) -> Outcome:
    return check_http(wanted, way, stop) if wanted.kind == "http" else check_tcp(wanted, way, stop)
