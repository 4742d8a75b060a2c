"""The ways to tell of alerts: a webhook, and a mail through an SMTP server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from email.utils import make_msgid
from urllib.parse import urlsplit

from app.config import Settings
from app.db import Db
from app.errors import Refused, Unavailable
from app.mail.one_mail import OneMail, Way, send_one, server_of_setting, ways_for_one
from app.mail.transport import ServerAddress
from app.mail.webhook import post_json
from app.scaling.alerts import Message


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
    post_json(url, document)


def mail(address: str, settings: Settings, server: Callable[[], ServerAddress], message: Message) -> None:
    """Mail the alerts, from the address to itself; raises Unavailable."""
    count = len(message.alerts)
    what = f"{count} {'alert' if count == 1 else 'alerts'}" if count else "resolved"
    subject = f"[mailcrew] {socket.gethostname()}: {what}"
    message_id = make_msgid(domain=address.rpartition("@")[2])
    try:
        send_one(OneMail(address, address, subject, _text(settings, message), message_id), [Way(server())])
    except Refused as error:
        raise Unavailable(str(error)) from error  # a problem that stays is told again


def shown_way(way: str) -> str:
    """A way of telling as people may see it: whoever knows the whole address of a chat's webhook may write there."""
    kind, _, target = way.partition(" ")
    return f"{kind} {urlsplit(target).hostname or ''}" if kind == "webhook" else way


def alert_server(settings: Settings, open_db: Callable[[], Db]) -> ServerAddress:
    """ALERT_SMTP, or the first server of ours that is not in trouble; raises Unavailable."""
    if chosen := server_of_setting(settings):
        return chosen
    db = open_db()
    try:
        return ways_for_one(settings, db, db.now_ms())[0].address
    finally:
        db.close()


def _text(settings: Settings, message: Message) -> str:
    lines = [f"{socket.gethostname()} {settings.home}"]
    lines += [f"ALERT: {alert.line}" for alert in message.alerts]
    lines += [f"resolved: {line}" for line in message.resolved]
    return "\n".join(lines)
