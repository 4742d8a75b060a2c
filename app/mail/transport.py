"""One open connection to one SMTP server; one round trip a mail where the server allows it.

The life of a mail: `begin` (MAIL, RCPT, DATA; for the first mail only), `send` (its content, and with
it the next mail's MAIL, RCPT, DATA: one flight, RFC 2920), `finish` (the replies to that flight).
Between `send` and `finish` the caller may compose another mail. Trouble is told in outcomes, never
raised; what is raised is the caller's mistake. After trouble on the line, `usable` is False.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from app.mail.channel import Channel, Lost
from app.mail.line import Timeouts
from app.mail.opening import Extensions, ProviderTrouble, ServerAddress, open_line
from app.mail.replies import (
    BadReply,
    Kind,
    Outcome,
    Reply,
    about_content,
    about_recipient,
    about_sender,
    in_doubt,
    provider,
    read_reply,
    refused_here,
    scan,
)

__all__ = [
    "Connection",
    "Envelope",
    "Kind",
    "Opened",
    "Outcome",
    "ProviderTrouble",
    "Reply",
    "ServerAddress",
    "Timeouts",
]

_forbidden = re.compile(r"[\x00-\x20<>\x7f]").search


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sends to whom. `size`: bytes of the content when known (RFC 1870); an empty sender is `<>`."""

    sender: str
    recipient: str
    smtputf8: bool = False
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """Whether the server waits for this mail's content; if not, `outcome` is the mail's."""

    outcome: Outcome | None

    @property
    def ready(self) -> bool:
        return self.outcome is None


_READY = Opened(None)
_RESET = b"RSET\r\n"


class Connection(Channel):
    """Used by one thread at a time; only `abort`, `progress`, `allowed` and `deadline` are for others."""

    def __init__(self, server: ServerAddress, timeouts: Timeouts) -> None:
        super().__init__(timeouts)
        self.server = server
        self._offers: Extensions
        self._expecting = False  # the server waits for content
        self._reset_first = False  # an envelope failed half-way: RSET before the next
        self._in_flight = False  # send() was called, finish() was not
        self._dot_taken = False
        self._next: Envelope | None = None
        self._next_flight = b""
        self._next_refused: Outcome | None = None

    @classmethod
    def open(
        cls,
        server: ServerAddress,
        *,
        timeouts: Timeouts | None = None,
        local_hostname: str,
        announce: Callable[[Connection], object] | None = None,
    ) -> Connection:
        """Connect, negotiate, log in; raises ProviderTrouble.

        `announce` gets the connection before the first packet, so that another thread can watch and abort it.
        """
        connection = cls(server, timeouts or Timeouts())
        if announce:
            announce(connection)
        try:
            line, connection._offers, unasked = open_line(server, connection.timeouts, local_hostname, connection)
        except BaseException:
            connection.release()
            raise
        connection.attach(line, unasked)
        return connection

    @property
    def usable(self) -> bool:
        """True while mails can be sent here. An idle line is asked: a 421 or an end in the meantime shows."""
        if self.gone is None and not self._expecting and not self._in_flight:
            self.notice()
        return self.gone is None

    @property
    def pipelining(self) -> bool:
        """Whether the server offers RFC 2920."""
        return self._offers.pipelining

    # -- a mail's life ---------------------------------------------------------------------------

    def begin(self, envelope: Envelope) -> Opened:
        """Ask the server to take a mail; ready when it waits for the content.

        Raises ValueError for an address that could break out of its command.
        """
        if self._expecting or self._in_flight:
            raise RuntimeError("another mail is open on this connection")
        commands = self._commands(envelope)
        refusal = self._refusal(envelope)
        if refusal:
            return Opened(refusal)
        if not self.usable:
            return Opened(provider(f"{self.server}: {self.gone}"))
        if not self._offers.pipelining:
            return self._dialogue(commands)
        self.write(_RESET + commands if self._reset_first else commands)
        return self._read_opening()

    def send(self, content: bytes, next_envelope: Envelope | None = None) -> None:
        """Write the content (CRLF, dot-stuffed, ending in CRLF), the dot, and the next mail's envelope.

        Raises ValueError, with nothing written, for a bad next address or a content that would end early.
        """
        if not self._expecting:
            raise RuntimeError("the server does not wait for content; call begin first")
        if content[-2:] != b"\r\n" or content[:3] == b".\r\n" or b"\r\n.\r\n" in content:
            raise ValueError("a content must end with CRLF and have no line of a single dot")
        self._next, self._next_flight, self._next_refused = next_envelope, b"", None
        tail = b".\r\n"
        if next_envelope is not None:
            self._next_flight = self._commands(next_envelope)
            self._next_refused = self._refusal(next_envelope)
            if self._offers.pipelining and self._next_refused is None:
                tail += self._next_flight
        self._expecting, self._in_flight, self._dot_taken = False, True, False
        # A server that has left or spoken already cannot have the mail: told here, it is no doubt.
        self.notice()
        if self.gone is None:
            dot_end = len(content) + 3
            taken = self.write(content + tail, dot_end)
            self._dot_taken = taken >= dot_end or taken + self._line.half_taken >= dot_end
        self.allowed = self.timeouts.final

    @property
    def arrived(self) -> bool:
        """Whether `finish` would not wait. Only for a server that offers PIPELINING."""
        if not self._in_flight or not self._dot_taken:
            return True
        envelope = self._next is not None and self._next_refused is None
        return self.has_replies(1 + (3 + self._reset_first if envelope else 0))

    def finish(self) -> tuple[Outcome, Opened | None]:
        """The outcome of the mail just sent, and whether the next one may follow (None: there is none)."""
        if not self._in_flight:
            raise RuntimeError("nothing was sent")
        self._in_flight = False
        outcome = self._read_final()
        if self._next is None:
            return outcome, None
        if self._next_refused:
            return outcome, Opened(self._next_refused)
        if self.gone is not None:
            return outcome, Opened(provider(f"{self.server}: {self.gone}"))
        if self._offers.pipelining:
            return outcome, self._read_opening()
        return outcome, self._dialogue(self._next_flight)

    def close(self) -> None:
        """Say QUIT when nothing is open; else just hang up, for a QUIT there would become content."""
        if self.usable and not self._expecting and not self._in_flight:
            self.write(b"QUIT\r\n")
            try:
                self.reply(self.timeouts.quit)
            except (Lost, BadReply):
                pass
        self.lose("the connection is closed")

    # -- envelopes -------------------------------------------------------------------------------

    def _commands(self, envelope: Envelope) -> bytes:
        sender, recipient = envelope.sender, envelope.recipient
        if _forbidden(sender) or _forbidden(recipient) or not recipient:
            raise ValueError(f"not an address for an envelope: {sender!r} or {recipient!r}")
        size = f" SIZE={envelope.size}" if self._offers.size and envelope.size is not None else ""
        text = f"MAIL FROM:<{sender}>{size}\r\nRCPT TO:<{recipient}>\r\nDATA\r\n"
        if envelope.smtputf8:
            # RFC 6531 §3.4; a server that offers it must offer 8BITMIME.
            return text.replace("\r\n", " BODY=8BITMIME SMTPUTF8\r\n", 1).encode()
        return text.encode("ascii")

    def _refusal(self, envelope: Envelope) -> Outcome | None:
        """What the server's own EHLO says against this mail, so that it need not be asked."""
        if envelope.smtputf8 and not self._offers.smtputf8:
            return refused_here(f"{self.server} takes no addresses outside ASCII (no SMTPUTF8)")
        limit = self._offers.size_limit
        if limit and envelope.size is not None and envelope.size > limit:
            return refused_here(f"a mail of {envelope.size} bytes is larger than {self.server} takes ({limit} bytes)")
        return None

    def _read_opening(self) -> Opened:
        """Read the replies to MAIL, RCPT and DATA that went out together (RFC 2920 §3.1)."""
        failure: Outcome | None = None
        timeouts = self.timeouts
        try:
            if self._reset_first:
                self._check_reset()
            if self.reply(timeouts.command) // 100 != 2:
                failure = about_sender("MAIL", self.answer)
            if self.reply(timeouts.command) // 100 != 2 and failure is None:
                failure = about_recipient("RCPT", self.answer)
            return self._data_reply(failure)
        except (Lost, BadReply) as error:
            self.lose(str(error))
            return Opened(failure or provider(f"{self.server}: {error}"))

    def _dialogue(self, commands: bytes) -> Opened:
        """MAIL, RCPT and DATA one by one, for a server without PIPELINING."""
        mail, rcpt, data, _ = commands.split(b"\r\n")
        command = self.timeouts.command
        try:
            if self._reset_first:
                self.write(_RESET)
                self._check_reset()
            if self._ask(mail, command) // 100 != 2:
                return self._failed(about_sender("MAIL", self.answer))
            if self._ask(rcpt, command) // 100 != 2:
                return self._failed(about_recipient("RCPT", self.answer))
            self.write(data + b"\r\n")
            return self._data_reply(None)
        except (Lost, BadReply) as error:
            self.lose(str(error))
            return Opened(provider(f"{self.server}: {error}"))

    def _data_reply(self, failure: Outcome | None) -> Opened:
        code = self.reply(self.timeouts.data)
        if code == 354 and failure is None:
            self._expecting = True
            self._reset_first = False
            return _READY
        if code < 400:
            # Content is expected of a mail that must not go. A lone dot would deliver an empty mail,
            # and QUIT would become its text: only hanging up is safe.
            self.lose(f"the server was out of step: DATA was answered {self.answer}")
        return self._failed(failure or about_sender("DATA", self.answer))

    def _failed(self, failure: Outcome) -> Opened:
        self._reset_first = True
        return Opened(failure)

    def _check_reset(self) -> None:
        if self.reply(self.timeouts.command) // 100 != 2:
            raise Lost(f"RSET was answered {self.answer}")
        self._reset_first = False

    # -- the content -----------------------------------------------------------------------------

    def _read_final(self) -> Outcome:
        if not self._dot_taken:
            return self._not_taken()
        try:
            self.reply(self.timeouts.final)
        except (Lost, BadReply) as error:
            self.lose(str(error))
            return in_doubt(f"{self.server}: {error}")
        outcome = about_content(self.answer)
        if outcome.kind is Kind.IN_DOUBT:
            self.lose("the server is out of step")
        return outcome

    def _not_taken(self) -> Outcome:
        """The server cannot have the whole mail. What it said on leaving, if anything, tells why."""
        try:
            found = scan(self.unread)
        except BadReply:
            found = None
        if found:
            outcome = about_content(read_reply(self.unread[: found[1]]))
            if outcome.reply and outcome.reply.code >= 400:
                return outcome
        return provider(f"{self.server}: {self.gone}")

    def _ask(self, command: bytes, allowed: float) -> int:
        self.write(command + b"\r\n")
        return self.reply(allowed)
