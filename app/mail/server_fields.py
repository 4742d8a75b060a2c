"""What may be said of an SMTP server: one table of checks for adding one and for changing one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.errors import UsageError
from app.mail.when import zone

TLS_KINDS = ("none", "starttls", "tls")
LIMITS = ("per_second", "per_minute", "per_hour", "per_day")
LOCAL = ("localhost", "127.0.0.1", "::1")
HIGHEST_WEIGHT = 1000


def check_fields(fields: Mapping[str, Any]) -> None:
    """Check a whole server, by the names of its columns; raises UsageError for the first that cannot work."""
    _check_place(fields)
    _check_numbers(fields)
    _check_login(fields)
    zone(str(fields.get("timezone") or "UTC"))


def _check_place(fields: Mapping[str, Any]) -> None:
    name, host, port, tls, ca = (fields.get(key) for key in ("name", "host", "port", "tls", "tls_ca"))
    if not name or not name.strip() or len(name) > 100 or not name.isprintable():
        raise UsageError(f"NAME={name!r} is not allowed: 1 to 100 characters")
    if not host or not host.strip() or any(c.isspace() for c in host) or len(host) > 253:
        raise UsageError(f"--host={host!r} is not allowed: a host name or an IP address")
    if not isinstance(port, int) or not 0 < port < 65536:
        raise UsageError(f"--port={port} is not allowed: 1 to 65535")
    if tls not in TLS_KINDS:
        raise UsageError(f"--tls={tls!r} is not allowed: {', '.join(TLS_KINDS)}")
    if ca and not Path(ca).is_file():
        raise UsageError(f"--tls-ca={ca!r} is not allowed: there is no such file")


def _check_numbers(fields: Mapping[str, Any]) -> None:
    for key in (*LIMITS, "max_connections"):
        value = fields.get(key)
        if value is not None and not 1 <= value <= 1_000_000_000:
            raise UsageError(f"--{key.replace('_', '-')}={value} is not allowed: 1 to 1000000000")
    weight = fields.get("weight", 1)
    if not 1 <= weight <= HIGHEST_WEIGHT:
        raise UsageError(f"--weight={weight} is not allowed: 1 to {HIGHEST_WEIGHT}")


def _check_login(fields: Mapping[str, Any]) -> None:
    user, password_env = fields.get("username"), fields.get("password_env")
    if bool(user) != bool(password_env):
        raise UsageError("--user and --password-env go together: the variable holds the user's password")
    if user and fields.get("tls") == "none" and fields.get("host") not in LOCAL:
        raise UsageError("--user needs --tls starttls or tls: the password would go over the network in clear")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", password_env or "_"):
        raise UsageError("--password-env names the variable that holds the password, like RELAY_PASSWORD")
