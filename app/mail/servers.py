"""The SMTP servers: adding them, choosing one, leaving one in trouble alone for a while."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from peewee import IntegrityError

from app.config import variable
from app.db import Db
from app.errors import MailcrewError, NotFound, Refused, UsageError
from app.mail.transport import ServerAddress
from app.models.tables import Server

TLS_KINDS = ("none", "starttls", "tls")
#: How long a server that refused, dropped or did not answer is left alone, in ms.
COOLDOWN_MS = 30_000


@dataclass(frozen=True)
class Choice:
    """A server that may be used now, or (`server` None) the instant in ms at which one may be."""

    server: Server | None
    free_at: int | None


def add_server(*, name: str, host: str, port: int, tls: str, now: int, **options: object) -> int:
    """Add a server; its id. Raises UsageError for a bad value, Refused when the name is taken."""
    if not name.strip() or len(name) > 100:
        raise UsageError(f"NAME={name!r} is not allowed: 1 to 100 characters")
    if not host.strip() or any(c.isspace() for c in host) or len(host) > 253:
        raise UsageError(f"--host={host!r} is not allowed: a host name or an IP address")
    if not 0 < port < 65536:
        raise UsageError(f"--port={port} is not allowed: 1 to 65535")
    if tls not in TLS_KINDS:
        raise UsageError(f"--tls={tls!r} is not allowed: {', '.join(TLS_KINDS)}")
    for option, value in options.items():
        if isinstance(value, int) and value < 1:
            raise UsageError(f"--{option.replace('_', '-')}={value} is not allowed: 1 or more")
    if bool(options.get("username")) != bool(options.get("password_env")):
        raise UsageError("--user and --password-env go together: the variable holds the user's password")
    if options.get("username") and tls == "none" and host not in ("localhost", "127.0.0.1", "::1"):
        raise UsageError("--user needs --tls starttls or tls: the password would go over the network in clear")
    ca = options.get("tls_ca")
    if ca and not Path(str(ca)).is_file():
        raise UsageError(f"--tls-ca={ca!r} is not allowed: there is no such file")
    try:
        return int(Server.create(name=name, host=host, port=port, tls=tls, created_at=now, **options).id)
    except IntegrityError as error:
        raise Refused(f"there is a server called {name!r} already; see bin/mailcrew servers list") from error


def find_server(name: str) -> Server:
    """The server of this name; raises NotFound."""
    found: Server | None = Server.get_or_none(Server.name == name)
    if found is None:
        raise NotFound(f"there is no server {name!r}; add it with bin/mailcrew servers add {name} --host …")
    return found


def address_of(server: Server) -> ServerAddress:
    """Where and how to connect; raises MailcrewError when the password's variable is not set."""
    password = variable(server.password_env) if server.password_env else None
    if server.password_env and not password:
        raise MailcrewError(f"server {server.name}: the variable {server.password_env} with its password is not set")
    tls = cast(Literal["none", "starttls", "tls"], server.tls)
    return ServerAddress(server.host, server.port, tls, server.tls_ca, server.username, password)


def choose(db: Db, campaign_id: int, now: int, *, connected: Collection[int], tried: Collection[int]) -> Choice:
    """A server of the campaign that may be used now: rather one in `connected`, none in `tried`."""
    ids = [r[0] for r in db.rows("SELECT server_id FROM campaign_servers WHERE campaign_id = ?", campaign_id)]
    servers = list(Server.select().where(Server.id.in_(ids), Server.state == "active")) if ids else []
    usable = [s for s in servers if (s.cooldown_until or 0) <= now and s.id not in tried]
    if usable:
        near = [s for s in usable if s.id in connected]
        return Choice(random.choice(near or usable), None)  # noqa: S311 (spreads load, keeps no secret)
    waits = [until for s in servers if (until := s.cooldown_until or 0) > now]
    return Choice(None, min(waits) if waits else now + COOLDOWN_MS)


def cool_down(db: Db, server_id: int, reason: str, now: int) -> None:
    """Leave a server alone for a while; the reason is shown to people."""
    db.run(
        "UPDATE servers SET cooldown_until = ?, cooldown_reason = ? WHERE id = ?",
        now + COOLDOWN_MS, reason[:500], server_id,
    )  # fmt: skip
