"""Replies read and commands written on one line, each within its time; knows no mail."""

from __future__ import annotations

import time

from app.mail.line import Line, Timeouts, Watch
from app.mail.replies import MAX_REPLY, BadReply, Reply, one_line, read_reply, scan


class Lost(Exception):
    """Raised when no reply can come any more; the text says why."""


class Channel(Watch):
    """The two directions of a line. Once `gone` has a reason, the line is closed and stays so."""

    def __init__(self, timeouts: Timeouts) -> None:
        super().__init__()
        self.timeouts = timeouts
        self.gone: str | None = None
        self._line: Line
        self._buffer = b""
        self._at = 0  # up to here the buffer is read
        self._raw = b""  # the reply read last

    def attach(self, line: Line, unasked: bytes) -> None:
        """Take over an open line and what was read from it too early."""
        self._line = line
        self._buffer = unasked

    def reply(self, allowed: float) -> int:
        """The next reply's code; its text is `answer`. Raises Lost or BadReply.

        `allowed` counts from the last progress, and bytes dribbled without completing a reply are none.
        """
        found = scan(self._buffer, self._at)
        while found is None:
            self._fill(allowed)
            found = scan(self._buffer, self._at)
            if found:
                self.progress = time.monotonic()
        code, end = found
        self._raw = self._buffer[self._at : end]
        self._at = end
        if code == 421:
            # RFC 5321 §3.8: the server closes the channel.
            self.lose(f"the server ended the session: {self.answer}")
        return code

    @property
    def answer(self) -> Reply:
        """The reply read last."""
        return read_reply(self._raw)

    @property
    def unread(self) -> bytes:
        """What was received and not yet read as a reply."""
        return self._buffer[self._at :]

    def write(self, data: bytes, dot_end: int = 0) -> int:
        """Bytes the line took: all of them, or fewer when it was lost. Replies are read meanwhile if need be.

        A server that answers before `dot_end` went out is not listening: the line is given up.
        """
        if self.gone is not None:
            return 0
        taken = 0
        try:
            taken = self._line.write(data)
        except OSError as error:
            self._hang_up(self._why(error))
        else:
            if taken < len(data):
                taken = self._write_rest(data, taken, dot_end)
        self.progress = time.monotonic()
        return taken

    def notice(self) -> None:
        """Between question and answer there is silence: an end or a word in it ends the line."""
        if self.gone is not None:
            return
        try:
            data = None if self.unread else self._line.read_now()
        except OSError as error:
            self.lose(self._why(error))
            return
        if data:
            self._take(data)
        if self.unread:
            self.lose(f"the server spoke unasked: {one_line(self.unread)}")
        elif data is not None:
            self.lose(self._why(None))

    def has_replies(self, count: int) -> bool:
        """Whether so many replies can be read without waiting, or none will ever come any more.

        Never waits: for a thread that looks after several lines.
        """
        if self.gone is not None or self.aborted or time.monotonic() > self.deadline:
            return True
        try:
            # Until nothing is left to read: what TLS has decrypted already wakes nobody.
            while not (enough := self._has(count)):
                data = self._line.read_now()
                if not data:
                    return data is not None
                self._take(data)
        except (OSError, BadReply):
            return True  # reading it as usual tells what is wrong
        self.progress = time.monotonic()
        return enough

    def _has(self, count: int) -> bool:
        at = self._at
        for _ in range(count):
            found = scan(self._buffer, at)
            if found is None:
                return False
            code, at = found
            if code == 421:
                return True
        return True

    def fileno(self) -> int:
        """The socket's number, for poll; raises Lost when there is none any more."""
        if self.gone is not None or self._handle is None:
            raise Lost(self.gone or "closed")
        return self._handle.fileno()

    def lose(self, reason: str) -> None:
        """Close the line without a word; the first reason is kept."""
        if self.gone is None:
            self.gone = reason
            self._line.close()
            self.release()

    def _fill(self, allowed: float) -> None:
        if self.gone is not None:
            raise Lost(self.gone)
        self.allowed = allowed
        if time.monotonic() - self.progress > allowed:
            raise Lost(f"no reply within {allowed:g} seconds")
        try:
            data = self._line.read()
        except BlockingIOError:
            return
        except OSError as error:
            raise Lost(self._why(error)) from error
        if not data:
            raise Lost(self._why(None))
        self._take(data)

    def _take(self, data: bytes) -> None:
        self._buffer = self.unread + data
        self._at = 0

    def _write_rest(self, data: bytes, taken: int, dot_end: int) -> int:
        # A server may answer while we still write; unread, its replies would block it, and it us.
        view = memoryview(data)
        self.moved(self.timeouts.block)
        while taken < len(view):
            if time.monotonic() > self.deadline:
                self._hang_up(f"the server took nothing for {self.allowed:g} seconds")
                break
            try:
                if self._line.wait_for_room() and not self._read_while_writing(done=taken >= dot_end):
                    break
                step = self._line.write(view[taken:])
            except OSError as error:
                self._hang_up(self._why(error))
                break
            if step:
                taken += step
                self.progress = time.monotonic()
        return taken

    def _read_while_writing(self, *, done: bool) -> bool:
        """Whether to go on writing."""
        data = self._line.read_now()
        if data is None:
            return True
        if not data:
            self._hang_up(self._why(None))
            return False
        self._take(data)
        if len(self._buffer) > 2 * MAX_REPLY or (not done and self._is_answered()):
            self._hang_up(f"the server answered before the mail was out: {one_line(self._buffer)}")
            return False
        return True

    def _is_answered(self) -> bool:
        try:
            return scan(self._buffer) is not None
        except BadReply:
            return True

    def _hang_up(self, reason: str) -> None:
        """Lose the line, but first take what it still holds: a server often says why it leaves."""
        try:
            while len(self._buffer) <= 2 * MAX_REPLY and (data := self._line.read_now()):
                self._take(data)
        except OSError:
            pass  # nothing more to learn
        self.lose(reason)

    def _why(self, error: OSError | None) -> str:
        if self.aborted:
            return "the connection was cut off by us"
        if error is None or isinstance(error, BrokenPipeError):
            return "the server closed the connection"
        if isinstance(error, ConnectionResetError):
            return "the server reset the connection"
        return error.strerror or str(error)
