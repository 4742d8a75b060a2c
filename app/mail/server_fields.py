"""What may be said of an SMTP server: one table of checks for adding one and for changing one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.config import TABLE
from app.errors import BadField, UsageError
from app.mail.when import zone

TLS_KINDS = ("none", "starttls", "tls")
LIMITS = ("per_second", "per_minute", "per_hour", "per_day")
LOCAL = ("localhost", "127.0.0.1", "::1")
HIGHEST_WEIGHT = 1000
HIGHEST_LIMIT = 1_000_000_000
#: As long as the columns are.
LONGEST = {"name": 100, "host": 253, "tls_ca": 500, "username": 200, "password_env": 100, "timezone": 64}
#: Of no server: who may name a variable would else have it sent to a host of his own.
OWN_VARIABLES = frozenset(setting.name for setting in TABLE)


def check_fields(fields: Mapping[str, Any]) -> None:
    """Check a whole server, by the names of its columns; raises BadField for the first that cannot work.

    What it says names the command's options; `field` is the column.
    """
    for key, longest in LONGEST.items():
        value = fields.get(key)
        if value and (len(value) > longest or not value.isprintable()):
            raise _bad(key, value[:50], f"1 to {longest} characters in one line")
    _check_place(fields)
    _check_numbers(fields)
    _check_login(fields)
    try:
        zone(str(fields.get("timezone") or "UTC"))
    except UsageError as error:
        raise BadField("timezone", str(error)) from None


def _check_place(fields: Mapping[str, Any]) -> None:
    name, host, port, tls, ca = (fields.get(key) for key in ("name", "host", "port", "tls", "tls_ca"))
    if not name or not name.strip():
        raise BadField("name", f"NAME={name!r} is not allowed: 1 to {LONGEST['name']} characters")
    if not host or not host.strip() or any(c.isspace() for c in host):
        raise _bad("host", host, "a host name or an IP address")
    if not isinstance(port, int) or not 0 < port < 65536:
        raise BadField("port", f"--port={port} is not allowed: 1 to 65535")
    if tls not in TLS_KINDS:
        raise _bad("tls", tls, ", ".join(TLS_KINDS))
    if ca and not Path(ca).is_file():
        raise _bad("tls_ca", ca, "there is no such file")


def _check_numbers(fields: Mapping[str, Any]) -> None:
    for key in (*LIMITS, "max_connections"):
        value = fields.get(key)
        if value is not None and not 1 <= value <= HIGHEST_LIMIT:
            raise BadField(key, f"{_option(key)}={value} is not allowed: 1 to {HIGHEST_LIMIT}")
    weight = fields.get("weight", 1)
    if not 1 <= weight <= HIGHEST_WEIGHT:
        raise BadField("weight", f"--weight={weight} is not allowed: 1 to {HIGHEST_WEIGHT}")


def _check_login(fields: Mapping[str, Any]) -> None:
    user, password_env = fields.get("username"), fields.get("password_env")
    if bool(user) != bool(password_env):
        missing = "password_env" if user else "username"
        raise BadField(missing, "--user and --password-env go together: the variable holds the user's password")
    if user and fields.get("tls") == "none" and fields.get("host") not in LOCAL:
        raise BadField("tls", "--user needs --tls starttls or tls: the password would go over the network in clear")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", password_env or "_"):
        raise BadField("password_env", "--password-env names the variable that holds the password, like RELAY_PASSWORD")
    if password_env in OWN_VARIABLES:
        raise _bad("password_env", password_env, "it is a setting of Mailcrew; use a variable for this password alone")


def _bad(key: str, value: object, allowed: str) -> BadField:
    return BadField(key, f"{_option(key)}={value!r} is not allowed: {allowed}")


def _option(key: str) -> str:
    return "NAME" if key == "name" else "--user" if key == "username" else f"--{key.replace('_', '-')}"
