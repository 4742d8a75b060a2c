"""How the servers are just now, as people and scripts see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import redis

from app.db import Db
from app.errors import LimitsUnavailable
from app.instants import iso
from app.mail.limits import History, Limiter, Limits, Request, Usage, keys
from app.mail.server_fields import LIMITS
from app.models.states import ServerState
from app.models.tables import Server

#: The fields of a view that are told as ISO 8601.
INSTANTS = ("free_at", "cooldown_until", "trial_until")
UNCOUNTED = "Redis does not answer, and limits are counted there"


@dataclass(frozen=True)
class ServerView:
    """One server. Instants in ms; `free_at` None: nobody can tell, or it can send.

    `used`: how much of each limit, by the names in `limits`; `connections`: how many are open, counted where
    `max_connections` limits them. None while Redis does not answer. `cooldown_step`: how often in a row it has cooled
    down; above 0 with `cooldown_until` None, one mail tries whether it is well again, until `trial_until`.
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
    connections: int | None
    cooldown_reason: str | None
    cooldown_step: int
    trial_until: int | None


def server_views(db: Db, client: redis.Redis, now: int, server_id: int | None = None) -> list[ServerView]:
    """All servers that are not removed, by name, or this one alone; two round trips to Redis."""
    chosen = Server.select().where(Server.state != ServerState.REMOVED).order_by(Server.name)
    servers = list(chosen if server_id is None else chosen.where(Server.id == server_id))
    usages = _usages(Limiter(client, History(db)), servers)
    opened = {} if usages is None else _connections(client, servers, now)
    return [
        _view(server, None if usages is None else usages.get(server.id), opened.get(server.id), now)
        for server in servers
    ]


def server_document(view: ServerView) -> dict[str, Any]:
    """What scripts read of a server."""
    return {**asdict(view), **{name: iso(getattr(view, name)) for name in INSTANTS}}


def limits_of(server: Server) -> Limits:
    """The limits of a server, as the limiter takes them."""
    return Limits(server.per_second, server.per_minute, server.per_hour, server.per_day, server.timezone)


def _connections(client: redis.Redis, servers: Sequence[Server], now: int) -> dict[int, int]:
    """How many slots of each server are taken; of none whose connections are not limited."""
    limited = [server.id for server in servers if server.max_connections is not None]
    pipeline = client.pipeline(transaction=False)
    for id_ in limited:
        pipeline.zcount(keys.connections(id_), f"({now}", "+inf")
    try:
        return dict(zip(limited, map(int, pipeline.execute()), strict=True)) if limited else {}
    except redis.RedisError:
        return {}


def _usages(limiter: Limiter, servers: list[Server]) -> Mapping[int, Usage] | None:
    try:
        return limiter.peek([Request(server.id, server.name, limits_of(server)) for server in servers])
    except LimitsUnavailable:
        return None


def _view(server: Server, usage: Usage | None, connections: int | None, now: int) -> ServerView:
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
        connections=connections, cooldown_reason=server.cooldown_reason if server.cooldown_step else None,
        cooldown_step=server.cooldown_step,
        trial_until=server.trial_until if (server.trial_until or 0) > now else None,
    )  # fmt: skip
