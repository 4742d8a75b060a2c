"""The bytes of one session with the test server: lines in, replies out, spoilt as a Fault wants it."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from typing import TYPE_CHECKING

from tests.smtp_faults import Fault, Verb

if TYPE_CHECKING:
    from tests.smtp_server import SmtpServer


class Gone(OSError):
    """Raised when the session is over, by either side."""


class Wire:
    """A socket, what was read from it, and how to answer on it."""

    def __init__(self, server: SmtpServer, connected: socket.socket, number: int) -> None:
        self._server, self._socket, self._number = server, connected, number
        self._buffer = b""
        self._tls = False
        self._last = ""  # the recipient in hand

    def close(self) -> None:
        self._socket.close()

    # -- answers ---------------------------------------------------------------------------------

    def _answer(self, verb: Verb, default: str) -> int:
        """Answer a command as the plan wants it; the code that was said."""
        return self._reply(default, self._server.fault(verb, self._last, self._number))

    def _reply(self, default: str, fault: Fault) -> int:
        if fault.delay:
            self._server.stopping.wait(fault.delay)
        if fault.drop == "before":
            self._hang_up(fault)
        if fault.silent:
            self._server.stopping.wait()
            raise Gone
        said = fault.raw if fault.raw is not None else f"{fault.reply or default}\r\n".encode()
        self._send(said if fault.later else said + fault.then, fault.pieces)
        if fault.later:
            self._server.stopping.wait(fault.later)
            self._send(fault.then, 0)
        if fault.drop == "after":
            self._hang_up(fault)
        return int(said[:3]) if said[:3].isdigit() else 0

    def _say(self, text: str) -> None:
        self._socket.sendall(f"{text}\r\n".encode())

    def _send(self, data: bytes, pieces: int) -> None:
        size = pieces or len(data) or 1
        for start in range(0, len(data), size):
            self._socket.sendall(data[start : start + size])

    def _hang_up(self, fault: Fault) -> None:
        if fault.reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone

    # -- bytes -----------------------------------------------------------------------------------

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            self._receive()
        line, _, self._buffer = self._buffer.partition(b"\n")
        if not line.endswith(b"\r"):
            self._violation(f"a line that ends in a bare LF: {line[:60]!r}")
        return line + b"\n"

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise Gone
        self._buffer += data

    def _more(self) -> bool:
        """Whether the client has sent something already that we have not read."""
        if self._buffer:
            return True
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        return bool(select.select([self._socket], [], [], 0)[0]) and bool(self._peek())

    def _peek(self) -> bytes:
        if isinstance(self._socket, ssl.SSLSocket):
            return b""  # an alert or an end looks the same from outside
        return self._socket.recv(1, socket.MSG_PEEK)

    def _start_tls(self) -> None:
        assert self._server.tls_context, "TLS needs certificates"
        if self._buffer:
            self._violation("something was sent before the TLS handshake")
        self._socket = self._server.tls_context.wrap_socket(self._socket, server_side=True)
        self._tls, self._buffer = True, b""

    def _violation(self, what: str) -> None:
        self._server.violation(self._number, what)
