"""Try an SMTP server out, one step after another, for a person who watches."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from app.config import variable
from app.errors import Refused
from app.mail.channel import Channel, Lost
from app.mail.one_mail import TIMEOUTS
from app.mail.opening import ServerAddress, open_line
from app.mail.replies import BadReply
from app.models.tables import Server


def address_of(server: Server) -> ServerAddress:
    """Where a server is and how to log in; raises Refused when the variable of its password is not set."""
    password = variable(server.password_env) if server.password_env else None
    if server.password_env and not password:
        raise Refused(f"the variable {server.password_env} with the password of server {server.name} is not set")
    tls: Any = server.tls
    return ServerAddress(server.host, server.port, tls, server.tls_ca, server.username, password)


def try_session(server: ServerAddress, told: Callable[[str], object]) -> None:
    """Connect, EHLO, STARTTLS and AUTH as configured, QUIT; `told` hears of each step. Raises ProviderTrouble."""
    channel = Channel(TIMEOUTS)
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
