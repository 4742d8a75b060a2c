"""How the servers are just now, as people and scripts see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import LimitsUnavailable
from app.mail.limits import Limiter, Limits, Request, Usage
from app.mail.server_fields import LIMITS
from app.models.states import ServerState
from app.models.tables import Server

UNCOUNTED = "Redis does not answer, and limits are counted there"


@dataclass(frozen=True)
class ServerView:
    """One server. Instants in ms; `free_at` None: nobody can tell, or it can send.

    `used`: how much of each limit, by the names in `limits`; None while Redis does not answer.
    """

    id: int
    name: str
    host: str
    port: int
    tls: str
    state: str
    can_send: bool
    blocked_by: str | None
    free_at: int | None
    cooldown_until: int | None
    limits: dict[str, int | None]
    used: dict[str, int] | None
    weight: int
    timezone: str
    max_connections: int | None


def server_views(limiter: Limiter, now: int) -> list[ServerView]:
    """All servers that are not removed, by name; one round trip to Redis."""
    servers = list(Server.select().where(Server.state != ServerState.REMOVED).order_by(Server.name))
    usages = _usages(limiter, servers)
    return [_view(server, None if usages is None else usages.get(server.id), now) for server in servers]


def limits_of(server: Server) -> Limits:
    """The limits of a server, as the limiter takes them."""
    return Limits(server.per_second, server.per_minute, server.per_hour, server.per_day, server.timezone)


def _usages(limiter: Limiter, servers: list[Server]) -> Mapping[int, Usage] | None:
    try:
        return limiter.peek([Request(server.id, server.name, limits_of(server)) for server in servers])
    except LimitsUnavailable:
        return None


def _view(server: Server, usage: Usage | None, now: int) -> ServerView:
    limits = {limit: getattr(server, limit) for limit in LIMITS}
    limited = any(value is not None for value in limits.values())
    cooling = (server.cooldown_until or 0) > now
    blocked_by, free_at = None, None
    if server.state == ServerState.PAUSED:
        blocked_by = "paused by hand"
    elif cooling:
        blocked_by, free_at = server.cooldown_reason, server.cooldown_until
    elif limited and usage is None:
        blocked_by = UNCOUNTED
    elif usage is not None and not usage.can_send:
        blocked_by, free_at = usage.blocked_by, usage.free_at
    used = {f"per_{window}": count for window, count in usage.used.items()} if usage is not None else None
    return ServerView(
        id=server.id, name=server.name, host=server.host, port=server.port, tls=server.tls, state=server.state,
        can_send=blocked_by is None, blocked_by=blocked_by, free_at=free_at,
        cooldown_until=server.cooldown_until if cooling else None, limits=limits,
        used=used,
        weight=server.weight, timezone=server.timezone, max_connections=server.max_connections,
    )  # fmt: skip
