"""One client's session with the test server: the protocol, strictly (RFC 5321, 2920, 1870, 4954, 6531)."""

from __future__ import annotations

import base64
import binascii
import re
import socket
from typing import TYPE_CHECKING

from tests.smtp_faults import Fault, Mail
from tests.smtp_wire import Gone, Wire

if TYPE_CHECKING:
    from tests.smtp_server import SmtpServer

_MAX_COMMAND = 512
_MAX_LINE = 998
# RFC 2920 §3.1: these may only be the last of a group.
_LAST_IN_GROUP = {"EHLO", "HELO", "DATA", "STARTTLS", "AUTH", "QUIT", "NOOP", "VRFY", "EXPN", "HELP"}
_MAIL = re.compile(r"FROM:<([^<>\s]*)>((?: [!-~]+)*)", re.IGNORECASE)
_RCPT = re.compile(r"TO:<([^<>\s]+)>((?: [!-~]+)*)", re.IGNORECASE)


class Session(Wire):
    """Commands in, replies out, faults where the plan wants them."""

    def __init__(self, server: SmtpServer, connected: socket.socket, number: int) -> None:
        super().__init__(server, connected, number)
        self._greeted = False
        self.said_goodbye = False
        self._user: str | None = None
        self._sender: str | None = None
        self._given: tuple[str, ...] = ()
        self._recipients: list[str] = []

    def run(self) -> None:
        """Serve until the client leaves; raises OSError when it does so rudely."""
        if self._server.offers.tls == "tls":
            self._start_tls()
        self._answer("CONNECT", "220 test.example ESMTP")
        while True:
            line = self._command_line()
            verb, _, argument = line.partition(" ")
            self._command(verb.upper(), argument)

    # -- commands --------------------------------------------------------------------------------

    def _command_line(self) -> str:
        raw = self._line()
        line = raw.rstrip(b"\r\n").decode("utf-8", "replace")
        self._server.heard(self._number, line)
        if not line:
            self._violation("an empty command")
        if len(raw) > _MAX_COMMAND + 100:
            self._violation(f"a command of {len(raw)} bytes")
        verb = line.partition(" ")[0].upper()
        if (not self._server.offers.pipelining or verb in _LAST_IN_GROUP) and self._more():
            self._violation(f"did not wait for the reply to {line!r}")
        return line

    def _command(self, verb: str, argument: str) -> None:
        handler = getattr(self, f"_do_{verb.lower()}", None)
        if handler is None:
            self._violation(f"unknown command {verb!r}")
            self._say("500 5.5.2 what?")
        else:
            handler(argument)

    def _do_ehlo(self, argument: str) -> None:
        offers = self._server.offers
        if not offers.esmtp:
            self._answer("EHLO", "502 5.5.1 not implemented")
            return
        self._greeted = True
        self._forget()
        starttls = offers.tls == "starttls" and not self._tls
        lines = [
            "test.example",
            *(["PIPELINING"] if offers.pipelining else []),
            *(["8BITMIME"] if offers.eightbit else []),
            *(["SMTPUTF8"] if offers.smtputf8 else []),
            *([f"SIZE {offers.size}"] if offers.size is not None else []),
            *(["STARTTLS"] if starttls else []),
            *([f"AUTH {' '.join(offers.mechanisms)}"] if offers.users and not starttls else []),
            "ENHANCEDSTATUSCODES",
        ]
        marks = ["-"] * (len(lines) - 1) + [" "]
        self._answer("EHLO", "\r\n".join(f"250{mark}{line}" for mark, line in zip(marks, lines, strict=True)))

    def _do_helo(self, argument: str) -> None:
        self._greeted = True
        self._answer("HELO", "250 test.example")

    def _do_starttls(self, argument: str) -> None:
        if self._server.offers.tls != "starttls" or self._tls:
            self._answer("STARTTLS", "503 5.5.1 not offered")
        elif self._answer("STARTTLS", "220 2.0.0 go ahead") == 220:
            self._start_tls()
            self._greeted = False

    def _do_auth(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        if mechanism.upper() == "PLAIN":
            words = self._decoded(initial or self._challenge("")).split("\0")
            user, password = (words[1], words[2]) if len(words) == 3 else ("", "")
        else:
            user = self._decoded(initial or self._challenge("Username:"))
            password = self._decoded(self._challenge("Password:"))
        if self._server.offers.users.get(user) != password:
            self._answer("AUTH", "535 5.7.8 authentication failed")
        elif self._answer("AUTH", "235 2.7.0 welcome") == 235:
            self._user = user

    def _challenge(self, text: str) -> str:
        self._say(f"334 {base64.b64encode(text.encode()).decode()}".rstrip())
        return self._line().decode().strip()

    def _decoded(self, text: str) -> str:
        try:
            return base64.b64decode(text, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            self._violation(f"not base64: {text!r}")
            return ""

    def _do_mail(self, argument: str) -> None:
        offers, found = self._server.offers, _MAIL.fullmatch(argument)
        default = "250 2.1.0 ok"
        if not self._greeted or self._sender is not None:
            default = "503 5.5.1 bad sequence"
        elif offers.users and self._user is None:
            default = "530 5.7.0 authentication required"
        elif found is None:
            self._violation(f"MAIL {argument!r}")
            default = "501 5.5.4 syntax"
        else:
            default = self._parameters(found[1], tuple(found[2].split())) or default
        if self._answer("MAIL", default) == 250 and found:
            self._sender, self._given = found[1], tuple(found[2].split())

    def _parameters(self, sender: str, given: tuple[str, ...]) -> str | None:
        offers = self._server.offers
        for parameter in given:
            name, _, value = parameter.upper().partition("=")
            offered = {"SIZE": offers.size is not None, "BODY": offers.eightbit, "SMTPUTF8": offers.smtputf8}
            if not offered.get(name):
                self._violation(f"parameter {parameter} was not offered")
                return "555 5.5.4 parameter not recognized"
            if name == "SIZE" and offers.size and int(value) > offers.size:
                return "552 5.3.4 too big"
        if not sender.isascii() and "SMTPUTF8" not in given:
            self._violation("a sender outside ASCII without SMTPUTF8")
        return None

    def _do_rcpt(self, argument: str) -> None:
        found = _RCPT.fullmatch(argument)
        default = "250 2.1.5 ok"
        if self._sender is None:
            default = "503 5.5.1 MAIL first"
        elif found is None:
            self._violation(f"RCPT {argument!r}")
            default = "501 5.5.4 syntax"
        elif not found[1].isascii() and "SMTPUTF8" not in self._given:
            self._violation("a recipient outside ASCII without SMTPUTF8")
        self._last = found[1] if found else ""
        if self._answer("RCPT", default) // 10 == 25 and found:
            self._recipients.append(found[1])

    def _do_data(self, argument: str) -> None:
        default = "354 go ahead"
        if self._sender is None:
            default = "503 5.5.1 MAIL first"
        elif not self._recipients:
            default = "554 5.5.1 no valid recipients"
        if self._answer("DATA", default) == 354:
            try:
                content = self._content()
            except OSError:
                self._server.abandoned.append(self._buffer)
                raise
            self._finish(content)
            self._forget()

    def _do_rset(self, argument: str) -> None:
        self._forget()
        self._answer("RSET", "250 2.0.0 ok")

    def _do_noop(self, argument: str) -> None:
        self._answer("NOOP", "250 2.0.0 ok")

    def _do_quit(self, argument: str) -> None:
        # Before the answer: who has it may connect anew at once.
        self._server.goodbye()
        self.said_goodbye = True
        self._answer("QUIT", "221 2.0.0 bye")
        raise Gone

    def _forget(self) -> None:
        self._sender, self._given, self._recipients, self._last = None, (), [], ""

    # -- the content -----------------------------------------------------------------------------

    def _content(self) -> bytes:
        fault = self._server.fault("CONTENT", self._last, self._number)
        if fault.raw is not None:
            if not self._buffer:
                self._receive()
            self._socket.sendall(fault.raw)
        if fault.after_bytes is not None:
            while len(self._buffer) < fault.after_bytes:
                self._receive()
            self._hang_up(fault)
        if fault.slow:
            self._read_slowly(fault)
        if self._buffer.startswith(b".\r\n"):
            self._buffer = self._buffer[3:]
            return b""
        searched = 0
        while (end := self._buffer.find(b"\r\n.\r\n", searched)) < 0:
            searched = max(0, len(self._buffer) - 4)
            self._receive()
        content, self._buffer = self._buffer[: end + 2], self._buffer[end + 5 :]
        self._check(content)
        return (b"\r\n" + content).replace(b"\r\n.", b"\r\n")[2:]

    def _check(self, content: bytes) -> None:
        if content.count(b"\n") != content.count(b"\r\n") or content.count(b"\r") != content.count(b"\r\n"):
            self._violation("a bare CR or LF in the content")
        if b"\0" in content:
            self._violation("a NUL in the content")
        if max(map(len, content.split(b"\r\n"))) > _MAX_LINE:
            self._violation("a content line of more than 998 bytes")
        if re.search(rb"(?:^|\r\n)\.(?!\.)", content):
            self._violation("a dot at the start of a line that is not stuffed")
        if not content.isascii() and "BODY=8BITMIME" not in self._given:
            self._violation("8-bit content without BODY=8BITMIME")

    def _finish(self, content: bytes) -> None:
        fault = self._server.fault("DOT", self._last, self._number)
        answered = fault.reply or (fault.raw.decode("latin-1") if fault.raw is not None else "250")
        gone = fault.drop == "before" or fault.silent
        if fault.accept or (not gone and answered.startswith("2")):
            mail = Mail(
                self._sender or "",
                tuple(self._recipients),
                content,
                self._number,
                self._given,
                self._tls,
                self._user,
            )
            self._server.accept(mail)
        self._reply("250 2.0.0 queued", fault)

    def _read_slowly(self, fault: Fault) -> None:
        while not fault.fast_after or len(self._buffer) < fault.fast_after:
            data = self._socket.recv(1)
            if not data:
                raise Gone
            self._buffer += data
            if b"\r\n.\r\n" in self._buffer or self._server.stopping.wait(fault.slow):
                return
