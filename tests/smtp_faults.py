"""What the test server may be told to do wrong, and when.

A plan is asked at every step with an Event and answers with a Fault or None (behave):

    on("RCPT", reply("550 5.1.1 no such user"), recipient="bob@example.org")
    on("DOT", drop(), count=3)                        the third mail: hang up instead of answering
    first_of(on(…), on(…))                            the first plan that has an opinion
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

#: CONNECT is the greeting; CONTENT is asked before a content is read, DOT after it.
Verb = Literal[
    "CONNECT", "EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "CONTENT", "DOT",
    "RSET", "NOOP", "QUIT", "VRFY", "EXPN", "HELP",
]  # fmt: skip


@dataclass(frozen=True)
class Event:
    """A step: `recipient` is that of RCPT and later steps, connections and counts start at 1.

    `count`: how often this verb has come to this server; `nth`: how often on this connection.
    """

    verb: Verb
    recipient: str
    connection: int
    count: int
    nth: int


@dataclass(frozen=True)
class Fault:
    """What to do instead of answering well. Combine at will; see the functions below for the usual ones."""

    #: Instead of the usual answer: code and text (a final reply of 2xx accepts, all else does not).
    reply: str | None = None
    #: Exact bytes instead of an answer; CONTENT: said once its first bytes have come.
    raw: bytes | None = None
    #: Exact bytes after the answer, in the same segment; after `later` seconds in one of their own.
    then: bytes = b""
    later: float = 0
    #: Close the line before the answer (so without it), or after.
    drop: Literal["no", "before", "after"] = "no"
    #: Close with RST, so that the client's kernel throws away what is in flight.
    reset: bool = False
    #: DOT with drop "before" or silent: the mail counts as accepted all the same.
    accept: bool = False
    #: Wait this long before answering.
    delay: float = 0
    #: Never answer; the line stays open.
    silent: bool = False
    #: The answer goes out in pieces of this many bytes, each in its own segment.
    pieces: int = 0
    #: CONTENT: drop when this many bytes of it have been read.
    after_bytes: int | None = None
    #: CONTENT: read one byte each so many seconds (and then `fast_after` bytes: normally).
    slow: float = 0
    fast_after: int = 0


Tls = Literal["none", "starttls", "tls"]
Plan = Callable[[Event], Fault | None]


def reply(text: str) -> Fault:
    return Fault(reply=text)


def drop(*, accept: bool = False, reset: bool = False) -> Fault:
    """Hang up instead of answering."""
    return Fault(drop="before", accept=accept, reset=reset)


def drop_after(text: str | None = None) -> Fault:
    """Answer, then hang up."""
    return Fault(reply=text, drop="after")


def silent(*, accept: bool = False) -> Fault:
    return Fault(silent=True, accept=accept)


def delayed(seconds: float) -> Fault:
    return Fault(delay=seconds)


def on(
    verb: Verb, fault: Fault, *, recipient: str | None = None, connection: int | None = None, count: int = 0
) -> Plan:
    """This fault at this verb; for one recipient, one connection, or the count-th time only, if given."""

    def plan(event: Event) -> Fault | None:
        meant = (
            event.verb == verb
            and recipient in (None, event.recipient)
            and connection in (None, event.connection)
            and count in (0, event.count)
        )
        return fault if meant else None

    return plan


def first_of(*plans: Plan) -> Plan:
    """The first plan that has an opinion."""

    def plan(event: Event) -> Fault | None:
        return next((fault for one in plans if (fault := one(event))), None)

    return plan


def behave(_event: Event) -> Fault | None:
    """The plan of a good server."""
    return None


@dataclass(frozen=True)
class Mail:
    """An accepted mail; `content` is without dot-stuffing and without the final dot."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    connection: int
    parameters: tuple[str, ...]
    tls: bool
    user: str | None


@dataclass
class Offers:
    """What the server's EHLO offers. `size` None: SIZE is not offered; `esmtp` False: only HELO."""

    pipelining: bool = True
    tls: Tls = "none"
    users: Mapping[str, str] = field(default_factory=dict)
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    smtputf8: bool = True
    eightbit: bool = True
    size: int | None = 10_000_000
    esmtp: bool = True


class Certificates(NamedTuple):
    """PEM files: an authority, and a key and certificate of its making for 127.0.0.1 and localhost."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path, names: str = "IP:127.0.0.1,DNS:localhost") -> Certificates:
    """A new authority and a server certificate for `names`, by the `openssl` command."""
    openssl = shutil.which("openssl")
    assert openssl, "the openssl command is missing"
    directory.mkdir(parents=True, exist_ok=True)

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    (directory / "names.cnf").write_text(f"subjectAltName={names}\n")
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA", "-days", "2")
    run("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=test server")
    run(
        *("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
        *("-out", "server.pem", "-days", "2", "-extfile", "names.cnf"),
    )
    return Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
