"""Try an SMTP server out, one step after another, for a person who watches."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import redis

from app.config import variable
from app.db import Db
from app.errors import Refused
from app.mail.allowance import Allowance
from app.mail.channel import Channel, Lost
from app.mail.limits import History, Limiter
from app.mail.line import Watch
from app.mail.one_mail import TIMEOUTS, NotYet, OneMail, Way, send_one
from app.mail.opening import ServerAddress, open_line
from app.mail.replies import BadReply
from app.mail.server_views import limits_of
from app.mail.when import shown_at
from app.models.tables import Server

#: So long a person waits for a token of the server, in seconds.
PATIENCE_SECONDS = 3.0

Told = Callable[[str], object]
Announce = Callable[[Watch], object]


def address_of(server: Server) -> ServerAddress:
    """Where a server is and how to log in; raises Refused when the variable of its password is not set."""
    password = variable(server.password_env) if server.password_env else None
    if server.password_env and not password:
        raise Refused(f"the variable {server.password_env} with the password of server {server.name} is not set")
    tls: Any = server.tls
    return ServerAddress(server.host, server.port, tls, server.tls_ca, server.username, password)


def try_session(server: ServerAddress, told: Told, announce: Announce = lambda _: None) -> None:
    """Connect, EHLO, STARTTLS and AUTH as configured, QUIT; `told` hears of each step. Raises ProviderTrouble.

    `announce` gets the line before its first packet, so that another thread can abort it.
    """
    channel = Channel(TIMEOUTS)
    announce(channel)
    try:
        line, _, unasked = open_line(server, TIMEOUTS, socket.gethostname(), channel, told)
    except BaseException:
        channel.release()
        raise
    channel.attach(line, unasked)
    try:
        channel.write(b"QUIT\r\n")
        channel.reply(TIMEOUTS.quit)
        told(f"QUIT: {channel.answer}")
    except (Lost, BadReply) as error:
        told(f"QUIT: no answer ({error})")  # rude, and no reason not to use it
    finally:
        channel.lose("tried out")


def send_trial(
    db: Db, client: redis.Redis, server: Server, sender: str, to: str, told: Told, announce: Announce = lambda _: None
) -> None:
    """Send one mail over a server; it counts for its limits like any other, and waits some seconds for its turn.

    Raises Refused and Unavailable as `send_one` does, Refused too when a limit is used up for longer.
    """
    address = address_of(server)
    mail = OneMail(
        sender, to, f"Test of server {server.name}", f"Mailcrew has sent this over {address}.",
        f"<test.{db.now_ms()}@{sender.rpartition('@')[2]}>",
    )  # fmt: skip
    way = Way(address, server.id, server.name, limits_of(server))
    allowance = Allowance(db, Limiter(client, History(db)))
    try:
        outcome = send_one(mail, [way], allowance, announce)
    except NotYet as error:
        soon = (error.free_at - db.now_ms()) / 1000
        if soon > PATIENCE_SECONDS:
            free_at = shown_at(error.free_at, server.timezone, db.now_ms())
            raise Refused(f"no mail sent: {error}, free at {free_at}") from error
        time.sleep(max(0.0, soon))
        outcome = send_one(mail, [way], allowance, announce)
    told(f"mail from {sender} to {to}: {outcome.reply}")
