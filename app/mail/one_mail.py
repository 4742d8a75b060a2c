"""One mail of our own (an alert, a notice): composed, and handed to the first server that takes it.

Nothing here is for campaigns: those have a compiled template, a journal and minutes of patience.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Literal
from urllib.parse import unquote, urlsplit

from app.config import Settings, variable
from app.db import Db
from app.errors import Refused, Unavailable
from app.mail.allowance import Allowance
from app.mail.limits import Limits, Refusal
from app.mail.line import Timeouts, Watch
from app.mail.transport import Connection, Envelope, Kind, Outcome, ProviderTrouble, ServerAddress

#: A server gets seconds where a campaign gives it minutes: somebody waits for this mail.
TIMEOUTS = Timeouts(connect=5, command=5, data=5, block=5, final=10, quit=1)
#: No further server is asked after so many seconds.
PATIENCE_SECONDS = 20.0
PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
TLS: dict[str, Literal["none", "starttls", "tls"]] = {"smtp": "none", "smtp+starttls": "starttls", "smtps": "tls"}
UNLIMITED = Limits()
#: Not every server offers 8BITMIME.
_POLICY = SMTP.clone(cte_type="7bit")


@dataclass(frozen=True)
class OneMail:
    """Plain text from one address to one other. `message_id` stays the same when it is sent again."""

    sender: str
    recipient: str
    subject: str
    body: str
    message_id: str
    auto: bool = True

    def content(self) -> bytes:
        """As it goes over the wire, dot-stuffed."""
        letter = EmailMessage(policy=_POLICY)
        letter["Subject"] = " ".join(self.subject.split())
        letter["From"], letter["To"] = self.sender, self.recipient
        letter["Date"] = format_datetime(datetime.fromtimestamp(time.time(), UTC))
        letter["Message-ID"] = self.message_id
        if self.auto:
            # Other systems are not to answer it (RFC 3834 §5).
            letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(self.body.rstrip("\n") + "\n")
        return letter.as_bytes().replace(b"\r\n.", b"\r\n..")


class NotYet(Unavailable):
    """Raised when the limits of every server are used up; `free_at` (ms since 1970): when one has a token again."""

    def __init__(self, reason: str, free_at: int) -> None:
        super().__init__(reason)
        self.free_at = free_at


@dataclass(frozen=True)
class Way:
    """A server that may take it: one of ours by its id, name and limits, or the one of ALERT_SMTP."""

    address: ServerAddress
    server_id: int | None = None
    name: str = ""
    limits: Limits = UNLIMITED


def send_one(
    mail: OneMail,
    ways: Sequence[Way],
    allowance: Allowance | None = None,
    announce: Callable[[Watch], object] = lambda _: None,
) -> Outcome:
    """Send it over the first of the servers that can, and may by its limits; what it answered.

    Raises NotYet when none may now; Unavailable when none could, or when one may have it and did not say so; Refused
    when one said that the recipient will never have it. Without an allowance limits are not asked. `announce` gets
    each connection before its first packet, so that another thread can abort it.
    """
    content = mail.content()
    until = time.monotonic() + PATIENCE_SECONDS
    trouble = "no SMTP server"
    refusals: list[Refusal] = []
    for way in ways:
        if allowance and way.server_id and (refusal := allowance.take(way.server_id, way.name, way.limits)):
            refusals.append(refusal)
            continue
        outcome = hand_over(way.address, mail.sender, mail.recipient, content, announce)
        if allowance and way.server_id:
            if outcome.kind is Kind.PROVIDER:
                allowance.give_back()
            else:
                allowance.used(way.server_id, sent=outcome.kind is Kind.ACCEPTED)
        if outcome.kind is Kind.ACCEPTED:
            return outcome
        trouble = f"{way.address} did not take the mail to {mail.recipient} ({outcome.reason})"
        if outcome.kind is Kind.RECIPIENT_REFUSED:
            raise Refused(trouble)
        if outcome.kind is not Kind.PROVIDER or time.monotonic() > until:
            break
    if refusals and len(refusals) == len(ways):
        first = min(refusals, key=lambda refusal: refusal.free_at)
        raise NotYet(first.reason, first.free_at)
    raise Unavailable(trouble)


def hand_over(
    where: ServerAddress,
    sender: str,
    recipient: str,
    content: bytes,
    announce: Callable[[Watch], object] = lambda _: None,
) -> Outcome:
    """One whole session with one server; what came of it. Trouble on the way is the provider's."""
    ascii_only = (sender + recipient).isascii()
    try:
        connection = Connection.open(where, timeouts=TIMEOUTS, local_hostname=socket.gethostname(), announce=announce)
    except ProviderTrouble as error:
        return Outcome(Kind.PROVIDER, error.reason, permanent=error.permanent)
    try:
        opened = connection.begin(Envelope(sender, recipient, smtputf8=not ascii_only, size=len(content)))
        if opened.outcome is not None:
            return opened.outcome
        connection.send(content)
        outcome, _ = connection.finish()
        return outcome
    except ValueError as error:
        return Outcome(Kind.RECIPIENT_REFUSED, str(error))
    finally:
        connection.close()


def ways_for_one(settings: Settings, db: Db, now: int) -> list[Way]:
    """ALERT_SMTP alone when it is set, else our active servers, those in trouble last; raises Unavailable."""
    if chosen := server_of_setting(settings):
        return [Way(chosen)]
    rows = db.rows(
        "SELECT id, name, host, port, tls, tls_ca, username, password_env, per_second, per_minute, per_hour, per_day, "
        "timezone FROM servers WHERE state = 'active' ORDER BY CASE WHEN cooldown_until > ? THEN 1 ELSE 0 END, id",
        now,
    )
    if not rows:
        raise Unavailable("no server takes alerts and notices: set ALERT_SMTP, or bin/mailcrew servers add")
    return [
        Way(
            ServerAddress(host, port, tls, tls_ca, username, variable(password_env) if password_env else None),
            int(id_), name, Limits(*limits),
        )
        for id_, name, host, port, tls, tls_ca, username, password_env, *limits in rows
    ]  # fmt: skip


def server_of_setting(settings: Settings) -> ServerAddress | None:
    """The server that ALERT_SMTP names."""
    if not settings.alert_smtp:
        return None
    parts = urlsplit(settings.alert_smtp)
    return ServerAddress(
        host=parts.hostname or "127.0.0.1", port=parts.port or PORTS[parts.scheme], tls=TLS[parts.scheme],
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )  # fmt: skip
