"""What an SMTP server's replies mean for one mail. Values in, values out; nothing here touches a socket."""

from __future__ import annotations

import re
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
#: A command that the server does not know or expect (RFC 5321 §4.2.4): nothing is wrong with whom it names.
_COMMAND_CODES = range(500, 505)
#: The enhanced status code (RFC 3463) at the beginning of a reply's text: class, subject.
_enhanced = re.compile(r"([245])\.(\d{1,3})\.\d{1,3}(?!\S)").match
_address = re.compile(r"<[^>]*>|\S+@\S+")
#: That this server passes nothing on for us, whoever it is for.
_relaying = re.compile(r"\brelay(?:ing|ed)?\b", re.IGNORECASE).search
_no_relaying = re.compile(
    r"relay(?:ing)?(?: access)? (?:is )?(?:denied|not permitted|not allowed|prohibited)"
    r"|(?:unable|not permitted|not allowed) to relay",
    re.IGNORECASE,
).search
#: That we send too much or that the server cannot keep up, whoever the mail is for.
_too_much = re.compile(
    r"throttl|rate limit|sending (?:rate|limit|quota)|message quota|too much mail"
    r"|too many (?:messages|connections|mails)|(?:server|system) (?:is )?(?:too )?busy|insufficient system",
    re.IGNORECASE,
).search
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

    `reply` is None when the server said nothing. For PROVIDER only: `permanent`, trying again will not
    help until somebody changes something; `of_sender`, other senders' mails may well go over this server.
    """

    kind: Kind
    reason: str = ""
    reply: Reply | None = None
    permanent: bool = False
    of_sender: bool = False


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
    of_sender = step == "MAIL" and _is_about_sender(reply)
    return Outcome(
        Kind.PROVIDER, f"{step} was answered {reply}", reply, permanent=reply.code >= 500, of_sender=of_sender
    )


def about_recipient(step: str, reply: Reply) -> Outcome:
    """A reply to RCPT or to the content that is not 2xx: 4xx later, 5xx refused (RFC 5321 §4.2.1).

    421, the codes about our login, and what says that the server relays nothing for us or cannot keep up
    are the server's trouble even here.
    """
    if reply.code == 421 or reply.code in _LOGIN_CODES or not 400 <= reply.code <= 599 or _is_about_us(reply):
        return about_sender(step, reply)
    kind = Kind.RECIPIENT_REFUSED if reply.code >= 500 else Kind.RECIPIENT_LATER
    return Outcome(kind, str(reply), reply)


def _is_about_sender(reply: Reply) -> bool:
    """Whether a refusal of MAIL is about the address: not 421, login, commands, nor the server's state (X.3, X.4)."""
    if reply.code == 421 or reply.code in _LOGIN_CODES or reply.code in _COMMAND_CODES:
        return False
    return 400 <= reply.code <= 599 and _subject(reply) not in (3, 4)


def _is_about_us(reply: Reply) -> bool:
    """Whether a refusal of RCPT or of the content would be the same for every recipient."""
    # What is quoted of the command may hold any word.
    text, subject = _address.sub("", reply.text), _subject(reply)
    if reply.code >= 500:
        return bool(_relaying(text)) if subject == 7 else subject is None and bool(_no_relaying(text))
    # X.1, X.2, X.6: the address, the mailbox, the message (RFC 3463 §2).
    return subject not in (1, 2, 6) and bool(_too_much(text))


def _subject(reply: Reply) -> int | None:
    """The middle figure of the enhanced status code, None when there is none."""
    found = _enhanced(reply.text)
    return int(found[2]) if found else None


def about_content(reply: Reply) -> Outcome:
    """The final reply, the one after the dot (RFC 5321 §4.2.5): only 2xx passes the mail on."""
    if 200 <= reply.code <= 299:
        return Outcome(Kind.ACCEPTED, "", reply)
    if 300 <= reply.code <= 399:
        return in_doubt(f"{reply} is no answer to a mail")
    return about_recipient("the mail", reply)
