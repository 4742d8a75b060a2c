"""What an SMTP server's replies mean for one mail. Values in, values out; nothing here touches a socket."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: RFC 5321 §4.5.3.1.5 allows 512 octets a line; real servers are chattier. Beyond this it is no reply.
MAX_LINE = 4096
#: All lines of one reply together.
MAX_REPLY = 65536
#: As much of a reply's text as is kept.
MAX_TEXT = 400

#: About our login at the server (RFC 4954 §6), so never about the recipient, whatever step they answer.
_LOGIN_CODES = frozenset({530, 534, 535, 538})
_CODES = {b"%d" % code: code for code in range(200, 600)}
_HYPHEN, _SPACE, _CR, _LF = b"- \r\n"


class BadReply(Exception):
    """Raised when what the server sent is no SMTP reply; the text says what is wrong with it."""


class Kind(StrEnum):
    """How one attempt ended. Only `LATER` and `REFUSED` say anything about the recipient."""

    ACCEPTED = "accepted"
    RECIPIENT_LATER = "later"
    RECIPIENT_REFUSED = "refused"
    #: The server's or the sender's trouble: never counts against the recipient.
    PROVIDER = "provider"
    #: The whole mail went out and no final reply came: it may have arrived, so it must not go again.
    IN_DOUBT = "in doubt"


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's reply: its code, and its text on one line with the enhanced status code kept."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended, and why in words a person understands.

    `reply` is None when the server said nothing; `permanent` tells, for PROVIDER only, that trying
    again will not help until somebody changes something.
    """

    kind: Kind
    reason: str = ""
    reply: Reply | None = None
    permanent: bool = False


def scan(buffer: bytes, start: int = 0) -> tuple[int, int] | None:
    """(code, end) of the reply that begins at `start`; None while it is incomplete (RFC 5321 §4.2.1).

    Raises BadReply for anything else, however the bytes were cut into segments.
    """
    at, code = start, 0
    while True:
        end = buffer.find(b"\n", at, at + MAX_LINE)
        if end < 0:
            if len(buffer) - at >= MAX_LINE:
                raise BadReply(f"a reply line of more than {MAX_LINE} bytes")
            return None
        found = _CODES.get(buffer[at : at + 3], 0)
        mark = buffer[at + 3] if found else 0
        if not found or (code and code != found) or mark not in (_SPACE, _HYPHEN, _CR, _LF):
            raise BadReply(f"not an SMTP reply: {one_line(buffer[at:end])[:80]!r}")
        if mark != _HYPHEN:
            return found, end + 1
        at, code = end + 1, found
        if at - start > MAX_REPLY:
            raise BadReply(f"a reply of more than {MAX_REPLY} bytes")


def read_reply(raw: bytes) -> Reply:
    """The Reply whose bytes `scan` delimited."""
    if raw.find(b"\n") == len(raw) - 1:
        return Reply(int(raw[:3]), one_line(raw[4:]))
    return Reply(int(raw[:3]), one_line(b" ".join(line[4:] for line in raw.splitlines())))


def one_line(raw: bytes) -> str:
    """Text from a stranger, safe in a log, a table and a page: bounded, one line, no control characters."""
    text = raw[: MAX_TEXT * 4].decode("utf-8", "replace").strip()
    if not text.isprintable():
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text[:MAX_TEXT]


def provider(reason: str, reply: Reply | None = None, *, permanent: bool = False) -> Outcome:
    """Trouble that is not the recipient's."""
    return Outcome(Kind.PROVIDER, reason, reply, permanent)


def in_doubt(reason: str) -> Outcome:
    return Outcome(Kind.IN_DOUBT, f"the whole mail went out and no final reply came: {reason}")


def refused_here(reason: str) -> Outcome:
    """A mail that this server cannot take, known without asking it."""
    return Outcome(Kind.RECIPIENT_REFUSED, reason)


def about_sender(step: str, reply: Reply) -> Outcome:
    """A refusal of MAIL or DATA: the server's or the sender's trouble, never the recipient's."""
    return provider(f"{step} was answered {reply}", reply, permanent=reply.code >= 500)


def about_recipient(step: str, reply: Reply) -> Outcome:
    """A reply to RCPT or to the content that is not 2xx: 4xx later, 5xx refused (RFC 5321 §4.2.1).

    421 and the codes about our login are the server's trouble even here.
    """
    if reply.code == 421 or reply.code in _LOGIN_CODES or not 400 <= reply.code <= 599:
        return about_sender(step, reply)
    kind = Kind.RECIPIENT_REFUSED if reply.code >= 500 else Kind.RECIPIENT_LATER
    return Outcome(kind, str(reply), reply)


def about_content(reply: Reply) -> Outcome:
    """The final reply, the one after the dot (RFC 5321 §4.2.5): only 2xx passes the mail on."""
    if 200 <= reply.code <= 299:
        return Outcome(Kind.ACCEPTED, "", reply)
    if 300 <= reply.code <= 399:
        return in_doubt(f"{reply} is no answer to a mail")
    return about_recipient("the mail", reply)
