"""The line between deferred and in doubt: did the end of the dot leave this machine?"""

from __future__ import annotations

import pytest

from app.mail.line import Line
from app.mail.transport import Connection, Kind, Opened, Outcome
from tests.smtp_server import SmtpServer
from tests.test_transport import CONTENT, connect, to

DOT_END = len(CONTENT) + len(b".\r\n")


class Scissors:
    """A real line that is cut once `room` more bytes were taken; `last_words` can still be read then."""

    half_taken = 0

    def __init__(self, line: Line, room: int, last_words: bytes, at_once: int) -> None:
        self._line, self._room, self._last_words, self._at_once = line, room, last_words, at_once

    def write(self, data: bytes | memoryview) -> int:
        if not self._room:
            raise ConnectionResetError
        taken = self._line.write(data[: min(self._room, self._at_once)])
        self._room -= taken
        return taken

    def read_now(self) -> bytes | None:
        if self._room:
            return None
        words, self._last_words = self._last_words, b""
        return words

    def read(self) -> bytes:
        return self.read_now() or b""

    def wait_for_room(self) -> bool:
        return False

    def close(self) -> None:
        self._line.close()


def cut_after(room: int, last_words: bytes = b"", at_once: int = 10**6) -> tuple[Outcome, Opened | None]:
    """Send mail a with the envelope of b behind it, on a line that takes just `room` bytes of it."""
    with SmtpServer() as server:
        connection: Connection = connect(server)
        assert connection.begin(to("a")).ready
        connection.attach(Scissors(connection._line, room, last_words, at_once), b"")
        connection.send(CONTENT, to("b"))
        result = connection.finish()
        assert not connection.usable
    return result


@pytest.mark.parametrize("at_once", [1, 10**6])
@pytest.mark.parametrize(
    ("room", "kind"),
    [
        (0, Kind.PROVIDER),
        (1, Kind.PROVIDER),
        (len(CONTENT), Kind.PROVIDER),
        (DOT_END - 1, Kind.PROVIDER),
        (DOT_END, Kind.IN_DOUBT),
        (DOT_END + 1, Kind.IN_DOUBT),
        (DOT_END + 40, Kind.IN_DOUBT),
    ],
)
def test_the_last_byte_of_the_dot_decides_between_deferred_and_doubt(room: int, kind: Kind, at_once: int) -> None:
    outcome, opened = cut_after(room, at_once=at_once)
    assert outcome.kind is kind
    assert opened
    assert opened.outcome
    assert opened.outcome.kind is Kind.PROVIDER


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"250 2.0.0 queued\r\n", Kind.ACCEPTED),
        (b"451 4.7.1 later\r\n", Kind.RECIPIENT_LATER),
        (b"421 4.3.2 closing\r\n", Kind.PROVIDER),
    ],
)
def test_a_final_reply_that_is_still_in_the_kernel_of_a_broken_line_counts(said: bytes, kind: Kind) -> None:
    outcome, _ = cut_after(DOT_END + 5, said)
    assert outcome.kind is kind


@pytest.mark.parametrize("at_once", [1, 10**6])
def test_the_last_words_of_a_server_that_did_not_get_the_mail_tell_why(at_once: int) -> None:
    outcome, _ = cut_after(10, b"421 4.3.2 shutting down\r\n", at_once)
    assert outcome.kind is Kind.PROVIDER
    assert "421 4.3.2 shutting down" in outcome.reason


def test_an_acceptance_of_a_mail_that_did_not_leave_is_not_believed() -> None:
    assert cut_after(DOT_END - 1, b"250 2.0.0 queued\r\n")[0].kind is Kind.PROVIDER


class HalfTaken(Scissors):
    """A line that, like OpenSSL, cannot say how much of its last piece is out, and breaks."""

    def write(self, data: bytes | memoryview) -> int:
        if self._room:
            self._room = 0
            self.half_taken = len(data)
            return 0
        raise ConnectionResetError


def test_a_dot_that_may_have_left_inside_a_tls_record_is_in_doubt() -> None:
    with SmtpServer() as server:
        connection = connect(server)
        assert connection.begin(to("a")).ready
        connection.attach(HalfTaken(connection._line, 1, b"", 1), b"")
        connection.send(CONTENT)
        assert connection.finish()[0].kind is Kind.IN_DOUBT
