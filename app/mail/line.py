"""Bytes to and from one SMTP server: a plain or a TLS socket, watched from other threads.

A plain socket blocks in the kernel for at most a tick (SO_RCVTIMEO), so that the usual read is one
system call; OpenSSL cannot do that, so a TLS socket is non-blocking and polled.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import Protocol

_READ_SIZE = 8192
# One TLS record at most (RFC 8446 §5.1): what OpenSSL took of a piece is all of it or nothing usable.
_RECORD = 16384


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each step may take, in seconds (RFC 5321 §4.5.3.2; quit is our own politeness)."""

    connect: float = 60
    #: The greeting, EHLO, STARTTLS, AUTH, MAIL, RCPT, RSET.
    command: float = 300
    data: float = 120
    #: Each piece of content that the server lets us write.
    block: float = 180
    final: float = 600
    quit: float = 5

    @property
    def tick(self) -> float:
        """How often a waiting thread looks at its deadline."""
        return min(1.0, self.connect, self.command, self.data, self.block, self.final, self.quit)


class Watch:
    """What another thread may see and do: how far a connection has come, and cutting it off at once."""

    def __init__(self) -> None:
        self.aborted = False
        #: Monotonic time of the last progress, and how long after it the next may take.
        self.progress = time.monotonic()
        self.allowed = 0.0
        self._handle: socket.socket | None = None

    @property
    def deadline(self) -> float:
        """The monotonic time at which the present wait is given up."""
        return self.progress + self.allowed

    def moved(self, allowed: float) -> None:
        """Something happened; the next thing may take `allowed` seconds."""
        self.allowed = allowed
        self.progress = time.monotonic()

    def hold(self, connected: socket.socket) -> None:
        """Keep a second handle on the socket: wrapping it for TLS takes the first one away."""
        self._handle = connected.dup()
        if self.aborted:
            self._cut()

    def release(self) -> None:
        """Close our handle; the line is gone only when every handle is."""
        handle, self._handle = self._handle, None
        if handle:
            handle.close()

    def abort(self) -> None:
        """Cut the line at once, from any thread; the thread that uses it sees it lost."""
        self.aborted = True
        self._cut()

    def _cut(self) -> None:
        handle = self._handle
        if handle:
            try:
                # Not SSLSocket.shutdown: that one drops the encryption first, and a send in another
                # thread could slip through in clear.
                handle.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # already gone


class Line(Protocol):
    """A connected socket. Every method raises OSError once the line is lost."""

    #: Bytes offered in a piece that is neither taken nor refused: the peer might have them.
    half_taken: int

    def write(self, data: bytes | memoryview) -> int:
        """Bytes taken at once without waiting; 0 when there is no room."""
        ...

    def read(self) -> bytes:
        """Bytes, waiting for at most a tick: BlockingIOError when none came, b"" when the peer closed."""
        ...

    def read_now(self) -> bytes | None:
        """Bytes that are there already, None when there are none, b"" when the peer closed."""
        ...

    def wait_for_room(self) -> bool:
        """Wait for at most a tick for room to write; True when there is something to read."""
        ...

    def close(self) -> None: ...


class PlainLine:
    """A TCP socket without TLS."""

    half_taken = 0

    def __init__(self, connected: socket.socket, tick: float) -> None:
        self._socket = connected
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN | select.POLLOUT)
        self._tick_ms = max(1, round(tick * 1000))
        connected.settimeout(None)
        seconds, rest = divmod(self._tick_ms, 1000)
        wait = struct.pack("@ll", seconds, rest * 1000)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)

    def write(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def read(self) -> bytes:
        return self._socket.recv(_READ_SIZE)

    def read_now(self) -> bytes | None:
        try:
            return self._socket.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def wait_for_room(self) -> bool:
        return any(event & ~select.POLLOUT for _, event in self._poll.poll(self._tick_ms))

    def close(self) -> None:
        self._socket.close()


class TlsLine:
    """A socket after its TLS handshake."""

    def __init__(self, connected: ssl.SSLSocket, tick: float) -> None:
        self._socket = connected
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)
        self._tick_ms = max(1, round(tick * 1000))
        self.half_taken = 0
        connected.setblocking(False)

    def write(self, data: bytes | memoryview) -> int:
        view, taken = memoryview(data), 0
        while taken < len(view):
            piece = view[taken : taken + _RECORD]
            try:
                taken += self._socket.send(piece)
                self.half_taken = 0
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                # A part of the record may be out. OpenSSL wants the same piece again.
                self.half_taken = len(piece)
                break
            except OSError:
                if not taken:
                    raise
                break  # what was taken must be counted; the next write raises again
        return taken

    def read(self) -> bytes:
        found = self.read_now()
        if found is None:
            self._poll.poll(self._tick_ms)
            found = self.read_now()
        if found is None:
            raise BlockingIOError
        return found

    def read_now(self) -> bytes | None:
        try:
            return self._socket.recv(_READ_SIZE)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def wait_for_room(self) -> bool:
        self._poll.modify(self._socket, select.POLLIN | select.POLLOUT)
        try:
            return any(event & ~select.POLLOUT for _, event in self._poll.poll(self._tick_ms))
        finally:
            self._poll.modify(self._socket, select.POLLIN)

    def close(self) -> None:
        self._socket.close()
