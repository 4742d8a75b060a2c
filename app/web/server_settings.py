"""What a person says of an SMTP server over HTTP: its fields, checked, and never a secret among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, TypedDict

from app.config import variable
from app.errors import Refused
from app.mail.server_changes import Changed, change_server, count_from_the_start, server_by_id
from app.mail.server_fields import HIGHEST_LIMIT, HIGHEST_WEIGHT, LIMITS, LONGEST, TLS_KINDS
from app.mail.servers import add_server
from app.models.tables import Server
from app.web.audit import tell
from app.web.errors import Problem
from app.web.fields import NUMBER, NUMBER_OR_NONE, TEXT, TEXT_OR_NONE, Kind, check_kinds, fields_named
from app.web.resources import resources

#: What a variable is called whose value may be sent to a host that somebody names over HTTP.
PASSWORD_VARIABLES = "_PASSWORD"  # noqa: S105 (a name)

#: The fields that have another name in the table, and the other way round.
COLUMNS = {"user": "username"}
RENAMED = {column: field for field, column in COLUMNS.items()}
KINDS: dict[str, Kind] = {
    "name": TEXT, "host": TEXT, "port": NUMBER, "tls": TEXT, "tls_ca": TEXT_OR_NONE, "user": TEXT_OR_NONE,
    "password_env": TEXT_OR_NONE, **dict.fromkeys((*LIMITS, "max_connections"), NUMBER_OR_NONE), "weight": NUMBER,
    "timezone": TEXT,
}  # fmt: skip
NEEDED = ("name", "host", "port")
OPTIONS = tuple(name for name in KINDS if name not in NEEDED)

NUMBERS = frozenset(name for name, kind in KINDS.items() if kind in (NUMBER, NUMBER_OR_NONE))

Limit = Annotated[int | None, {"minimum": 1, "maximum": HIGHEST_LIMIT}]


class Options(TypedDict):
    """What may be said of a server; what is left out stays, null takes away. `password_env` names the variable that
    holds the password; the password itself is said nowhere."""

    tls: NotRequired[Annotated[str, {"enum": list(TLS_KINDS)}]]
    tls_ca: NotRequired[Annotated[str | None, {"maxLength": LONGEST["tls_ca"]}]]
    user: NotRequired[Annotated[str | None, {"maxLength": LONGEST["username"]}]]
    password_env: NotRequired[Annotated[str | None, {"maxLength": LONGEST["password_env"]}]]
    per_second: NotRequired[Limit]
    per_minute: NotRequired[Limit]
    per_hour: NotRequired[Limit]
    per_day: NotRequired[Limit]
    max_connections: NotRequired[Limit]
    weight: NotRequired[Annotated[int, {"minimum": 1, "maximum": HIGHEST_WEIGHT}]]
    timezone: NotRequired[Annotated[str, {"maxLength": LONGEST["timezone"]}]]


class NewServer(Options):
    """A server that is to be added."""

    name: Annotated[str, {"maxLength": LONGEST["name"]}]
    host: Annotated[str, {"maxLength": LONGEST["host"]}]
    port: Annotated[int, {"minimum": 1, "maximum": 65535}]


class ServerChanges(Options):
    """What is to be otherwise. A server keeps its name."""

    host: NotRequired[Annotated[str, {"maxLength": LONGEST["host"]}]]
    port: NotRequired[Annotated[int, {"minimum": 1, "maximum": 65535}]]


class ServerSettings(TypedDict):
    """What a person has said of a server. `password_known`: its variable has a value, as far as the console sees."""

    id: int
    name: str
    host: str
    port: int
    tls: str
    tls_ca: str | None
    user: str | None
    password_env: str | None
    password_known: bool
    per_second: int | None
    per_minute: int | None
    per_hour: int | None
    per_day: int | None
    max_connections: int | None
    weight: int
    timezone: str


def settings_of(server: Server) -> dict[str, Any]:
    """What a person has said of a server, under the names of the API; no secret is among it."""
    stored = server.__data__
    names = [name for name in ServerSettings.__annotations__ if name != "password_known"]
    known = bool(server.password_env and variable(server.password_env))
    return {name: stored[COLUMNS.get(name, name)] for name in names} | {"password_known": known}


def added(said: Mapping[str, Any]) -> int:
    """Add a server; its id. Raises Problem."""
    columns = {name: value for name, value in _columns(said).items() if value is not None}
    for name in NEEDED:
        if name not in columns:
            raise Problem(400, "invalid", f"{name} is missing", name)
    columns.setdefault("tls", TLS_KINDS[0])
    _check_variable(columns, None)
    with fields_named(renamed=RENAMED):
        try:
            server_id = add_server(now=resources().db.now_ms(), **columns)
        except Refused as error:
            raise Problem(409, "refused", str(error), "name") from error
    tell(f"server {columns['name']}")
    return server_id


def changed(server_id: int, said: Mapping[str, Any]) -> Changed:
    """Change a server by the fields that are said; raises NotFound or Problem."""
    here, server = resources(), server_by_id(server_id)
    columns = _columns(said)
    for name in ("host", "port", "tls", "weight", "timezone"):
        if name in columns and columns[name] is None:
            raise Problem(400, "invalid", f"{name} cannot be taken away", name)
    _check_variable(columns, server.password_env)
    with fields_named(renamed=RENAMED):
        done = change_server(here.db, server.name, columns)
    tell(f"{server.name}: {', '.join(done.fields) or 'nothing'}")
    if done.first_limits and not count_from_the_start(here.db, here.redis, server_id):
        tell("Redis away, what it has sent so far may not be counted")
    return done


def _columns(said: Mapping[str, Any]) -> dict[str, Any]:
    """What is said by the columns it means; texts without the blanks around them. Raises Problem."""
    check_kinds(said, KINDS)
    found = {COLUMNS.get(name, name): value for name, value in said.items()}
    return {name: (value.strip() or None) if isinstance(value, str) else value for name, value in found.items()}


def _check_variable(columns: Mapping[str, Any], before: str | None) -> None:
    """Over HTTP no other variable of this machine may be had sent to a host of the caller's."""
    name = columns.get("password_env")
    if name and name != before and not name.endswith(PASSWORD_VARIABLES):
        raise Problem(
            400, "invalid", f"password_env={name!r} is not allowed here: a name that ends in {PASSWORD_VARIABLES}; "
            "bin/mailcrew servers takes any", "password_env",
        )  # fmt: skip
