"""TCP checks against real ports, well-behaved and hostile."""

from __future__ import annotations

import threading

import pytest

from app.mail.exchange import Way
from app.mail.outgoing import Stopped
from app.schedules.checks.check import check
from app.schedules.checks.outcome import Outcome
from app.schedules.checks.target import Wanted
from app.schedules.checks.tcp_check import check_tcp
from tests.checks.site import HERE, Port, Watch, tcp
from tests.ports import free_port

NEVER = threading.Event()


def checked(wanted: Wanted, way: Way = HERE) -> Outcome:
    return check_tcp(wanted, way, NEVER)


def test_a_port_that_takes_connections_is_up() -> None:
    with Port(hang_up=False) as port:
        outcome = checked(tcp(port.port))
    assert outcome.ok
    assert outcome.status_code is None


def test_a_closed_port_is_down_and_says_so() -> None:
    assert "refuses connections" in (checked(tcp(free_port())).error or "")


def test_the_text_is_waited_for_across_parts() -> None:
    with Port(b"220 mx.exa", b"mple ESMTP\r\n", pause=0.2, hang_up=False) as port:
        assert checked(tcp(port.port, keyword="example ESMTP")).ok


@pytest.mark.parametrize(
    ("parts", "pause", "hang_up", "seconds", "error"),
    [
        ([b"554 go away\r\n"], 0, True, 30, "when the connection was closed; it said “554 go away”"),
        ([], 0, True, 30, "when the connection was closed; it said nothing"),
        ([b"\x00\x1b[31mred\r\n"], 0, True, 30, "it said “[31mred”"),
        ([], 0, False, 3, "when 3 s were over; it said nothing"),
        ([b"."] * 1000, 0.05, False, 3, "when 3 s were over; it said “."),
        ([b"no " * 20_000] * 50, 0, False, 30, "when 64 KiB had come"),
    ],
)
def test_without_the_text_it_is_down(parts: list[bytes], pause: float, hang_up: bool, seconds: int, error: str) -> None:
    with Port(*parts, pause=pause, hang_up=hang_up) as port, Watch() as watch:
        outcome = checked(tcp(port.port, keyword="220", timeout_seconds=seconds))
    assert outcome.error
    assert outcome.error.startswith("the text “220” had not come")
    assert error in outcome.error
    assert watch.seconds < 30


def test_an_address_inside_is_refused() -> None:
    with Port() as port:
        outcome = checked(tcp(port.port), Way())
    assert "ALLOW_PRIVATE_ADDRESSES=127.0.0.1" in (outcome.error or "")
    assert outcome.final


def test_a_stop_ends_the_wait_between_two_looks() -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with Watch() as watch, pytest.raises(Stopped):
        check(tcp(free_port()), HERE, stop, pause=60)
    assert watch.seconds < 30
