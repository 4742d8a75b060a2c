"""The SMTP servers: adding them, choosing one, leaving one in trouble alone for a while."""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from peewee import IntegrityError

from app.config import variable
from app.db import Db
from app.errors import Refused, UsageError
from app.mail.transport import ServerAddress
from app.models.tables import Server

TLS_KINDS = ("none", "starttls", "tls")
#: How long a server that refused, dropped or did not answer is left alone, in ms.
COOLDOWN_MS = 30_000


@dataclass(frozen=True, slots=True)
class Usable:
    """A server that may be used now."""

    id: int
    name: str
    address: ServerAddress


@dataclass(frozen=True, slots=True)
class Choice:
    """The server to use, or (None) the instant in ms at which one may be tried again, and why not now."""

    server: Usable | None
    free_at: int = 0


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
        if isinstance(value, int) and not 1 <= value <= 1_000_000_000:
            raise UsageError(f"--{option.replace('_', '-')}={value} is not allowed: 1 to 1000000000")
    if bool(options.get("username")) != bool(options.get("password_env")):
        raise UsageError("--user and --password-env go together: the variable holds the user's password")
    if options.get("username") and tls == "none" and host not in ("localhost", "127.0.0.1", "::1"):
        raise UsageError("--user needs --tls starttls or tls: the password would go over the network in clear")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(options.get("password_env") or "_")):
        raise UsageError("--password-env names the variable that holds the password, like RELAY_PASSWORD")
    ca = options.get("tls_ca")
    if ca and not Path(str(ca)).is_file():
        raise UsageError(f"--tls-ca={ca!r} is not allowed: there is no such file")
    try:
        return int(Server.create(name=name, host=host, port=port, tls=tls, created_at=now, **options).id)
    except IntegrityError as error:
        raise Refused(f"there is a server called {name!r} already; see bin/mailcrew servers list") from error


def choose(db: Db, campaign_id: int, now: int, *, connected: Collection[int], tried: Collection[int]) -> Choice:
    """A server of the campaign that may be used now: rather one in `connected`, none in `tried`.

    One whose password is not set is cooled down with that reason.
    """
    rows = db.rows(
        "SELECT s.id, s.name, s.cooldown_until, s.host, s.port, s.tls, s.tls_ca, s.username, s.password_env "
        "FROM campaign_servers c JOIN servers s ON s.id = c.server_id WHERE c.campaign_id = ? AND s.state = 'active'",
        campaign_id,
    )
    usable = [row for row in rows if (row[2] or 0) <= now and row[0] not in tried]
    random.shuffle(usable)
    usable.sort(key=lambda row: row[0] not in connected)
    for id_, name, _, host, port, tls, tls_ca, username, password_env in usable:
        password = variable(password_env) if password_env else None
        if password_env and not password:
            cool_down(db, id_, f"the variable {password_env} with its password is not set", now)
            continue
        return Choice(Usable(id_, name, ServerAddress(host, port, tls, tls_ca, username, password)))
    waits = [row[2] for row in rows if (row[2] or 0) > now]
    return Choice(None, min(waits, default=now + COOLDOWN_MS))


def cool_down(db: Db, server_id: int, reason: str, now: int) -> None:
    """Leave a server alone for a while; the reason is shown to people."""
    db.run(
        "UPDATE servers SET cooldown_until = ?, cooldown_reason = ? WHERE id = ?",
        now + COOLDOWN_MS, reason[:500], server_id,
    )  # fmt: skip
