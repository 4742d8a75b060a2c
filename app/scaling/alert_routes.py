"""The ways to tell of alerts: a webhook, and a mail through an SMTP server."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Literal
from urllib.parse import unquote, urlsplit

from app.config import Settings, variable
from app.db import Db
from app.errors import Unavailable
from app.mail.line import Timeouts
from app.mail.transport import Connection, Envelope, Kind, ServerAddress
from app.scaling.alerts import Message

WEBHOOK_SECONDS = 10.0
#: A check must end within its minute, so a server gets seconds where a campaign gives it minutes.
MAIL_TIMEOUTS = Timeouts(connect=5, command=5, data=5, block=5, final=10, quit=1)
PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
TLS: dict[str, Literal["none", "starttls", "tls"]] = {"smtp": "none", "smtp+starttls": "starttls", "smtps": "tls"}


def post(url: str, settings: Settings, message: Message) -> None:
    """POST the alerts as JSON; `text` is what chat services show. Raises Unavailable."""
    document = {
        "text": _text(settings, message),
        "status": "alert" if message.alerts else "resolved",
        "host": socket.gethostname(),
        "home": str(settings.home),
        "alerts": [alert.as_json() for alert in message.alerts],
        "resolved": list(message.resolved),
    }
    request = urllib.request.Request(  # noqa: S310 (the setting allows http and https only)
        url,
        data=json.dumps(document, ensure_ascii=False).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "mailcrew"},
    )
    try:
        with urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS) as response:  # noqa: S310
            response.read(1)
    except urllib.error.HTTPError as error:
        error.close()
        raise Unavailable(f"the webhook {_host(url)} answered {error.code} {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unavailable(f"the webhook {_host(url)} cannot be reached ({getattr(error, 'reason', error)})") from error


def mail(address: str, settings: Settings, server: Callable[[], ServerAddress], message: Message) -> None:
    """Mail the alerts; raises Unavailable."""
    host = socket.gethostname()
    letter = EmailMessage(policy=SMTP)
    count = len(message.alerts)
    what = f"{count} {'alert' if count == 1 else 'alerts'}" if count else "resolved"
    letter["Subject"] = f"[mailcrew] {host}: {what}"
    letter["From"] = letter["To"] = address
    letter["Date"] = format_datetime(datetime.fromtimestamp(time.time(), UTC))
    letter["Message-ID"] = make_msgid(domain=address.rpartition("@")[2])
    # Other systems are not to answer it (RFC 3834 §5).
    letter["Auto-Submitted"] = "auto-generated"
    letter.set_content(_text(settings, message) + "\n")
    content = letter.as_bytes().replace(b"\r\n.", b"\r\n..")
    where = server()
    connection = Connection.open(where, timeouts=MAIL_TIMEOUTS, local_hostname=host)
    try:
        opened = connection.begin(Envelope(address, address, size=len(content)))
        outcome = opened.outcome
        if opened.ready:
            connection.send(content)
            outcome, _ = connection.finish()
    finally:
        connection.close()
    if outcome is None or outcome.kind is not Kind.ACCEPTED:
        raise Unavailable(f"{where} did not take the mail to {address} ({outcome.reason if outcome else 'no answer'})")


def alert_server(settings: Settings, open_db: Callable[[], Db]) -> ServerAddress:
    """ALERT_SMTP, or the first active server of ours; raises Unavailable."""
    if settings.alert_smtp:
        parts = urlsplit(settings.alert_smtp)
        return ServerAddress(
            host=parts.hostname or "127.0.0.1", port=parts.port or PORTS[parts.scheme], tls=TLS[parts.scheme],
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )  # fmt: skip
    db = open_db()
    try:
        row = db.row(
            "SELECT host, port, tls, tls_ca, username, password_env FROM servers WHERE state = 'active' ORDER BY id"
        )
    finally:
        db.close()
    if row is None:
        raise Unavailable("no server takes alerts: set ALERT_SMTP, or bin/mailcrew servers add")
    host, port, tls, tls_ca, username, password_env = row
    return ServerAddress(host, port, tls, tls_ca, username, variable(password_env) if password_env else None)


def _text(settings: Settings, message: Message) -> str:
    lines = [f"{socket.gethostname()} {settings.home}"]
    lines += [f"ALERT: {alert.line}" for alert in message.alerts]
    lines += [f"resolved: {line}" for line in message.resolved]
    return "\n".join(lines)


def _host(url: str) -> str:
    """Without the path, which is the secret of many webhooks."""
    return urlsplit(url).hostname or "?"
